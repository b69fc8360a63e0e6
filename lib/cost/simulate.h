/* SPDX-License-Identifier: MIT */
/* Plays a schedule: when each operation of each pipeline rank would start. */
#ifndef COST_SIMULATE_H
#define COST_SIMULATE_H

#include "plan/plan.h"

struct simulation {
    double span_s, bubble; /* time of the whole; 1 − busy/(pp·span) */
    /* [pp] the most microbatch·chunks held at once: from the start of F to the end of B, or of W where there
     * is one */
    int *in_flight;
    int max_in_flight;
    int ranks;        /* pp */
    double **start_s; /* [pp][ops of that rank's program]: when each op starts */
};
/* What the operations of one virtual stage take: B is of inputs alone, and takes w_s more where a program has
 * no W. */
struct stage_times {
    double f_s, b_s, w_s;
};
/* Plays with times for each virtual stage, and message_s between the end of one stage's and the start of
 * another's (stages on one rank pass it on at once). */
int plan_simulate_stages(const struct plan *p, const struct stage_times *times, double message_s,
                         struct simulation *out);
/* The same with one for all: every F takes f_s, every W w_s, every B b_s, or b_s + w_s in a program without
 * W, whatever the stage's layers. -1 with error() (status 1) when the programs deadlock, miss or repeat an
 * op, or order one wrongly: the text says which op of which stage waits for what. */
int plan_simulate(const struct plan *p, double f_s, double b_s, double w_s, struct simulation *out);
/* What an op takes in plan_simulate(p, 1, 1, 1, …): F and W one, B two where the program does not split its W
 * off. */
int op_units(const struct op *o, bool splits_backward);
/* Only whether each program has every op once: -1 with error() (status 1). */
int plan_programs_complete(const struct plan *p);
void simulation_release(struct simulation *s);

#endif
