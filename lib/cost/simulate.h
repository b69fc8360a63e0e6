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
/* Every F takes f_s, every W w_s, every B b_s, or b_s + w_s in a program without W, whatever the stage's
 * layers. -1 with error() (status 1) when the programs deadlock, miss or repeat an op, or order one wrongly:
 * the text says which op of which stage waits for what. */
int plan_simulate(const struct plan *p, double f_s, double b_s, double w_s, struct simulation *out);
/* Only whether each program has every op once: -1 with error() (status 1). */
int plan_programs_complete(const struct plan *p);
void simulation_release(struct simulation *s);

#endif
