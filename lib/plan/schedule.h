/* SPDX-License-Identifier: MIT */
/* Schedules: the program of every pipeline rank. To add one: a generator and a row in schedule.c, its
 * description in moe-partition(1) and moe-plan(5), a play in t/unit/schedule.c and a layout in
 * t/0600-layouts.t. The engine only interprets programs and the simulation plays them: neither knows a
 * schedule. */
#ifndef PLAN_SCHEDULE_H
#define PLAN_SCHEDULE_H

#include "base/words.h"
#include "plan/plan.h"

/* Where a program runs: pipeline rank i of p, each with v chunks; m microbatches. */
struct pipe {
    int64_t i, p, v, m;
};

struct schedule {
    const char *name;
    bool chunks; /* needs v above 1; the others need v = 1 */
    bool splits; /* backward is cut in B and W: three ops a microbatch, not two; no recomputation */
    /* Adds the ops of one rank to g, in order; there is room for all. */
    void (*generate)(struct program *g, struct pipe at);
    /* The most microbatch·chunks that the rank holds at once (from the start of F to the end of B, or of W). */
    int64_t (*in_flight)(struct pipe at);
    /* What else the schedule asks of a plan: false with the reason, the numbers and what would do; or NULL. */
    bool (*fits)(const struct plan *p, char why[static 400]);
};
extern const struct schedule schedules[]; /* a NULL name ends them */
extern const struct words schedule_words;

/* p's schedule: schedules[p->training.schedule]. */
const struct schedule *plan_schedule(const struct plan *p);
/* What is taken where none is asked for: an index in schedules. */
int schedule_default(int64_t vpp);
/* Where pipeline rank i of the plan stands. */
struct pipe plan_pipe(const struct plan *p, int64_t i);

/* Makes p->programs, one for each pipeline rank. */
void schedule_make(struct plan *p);
bool program_splits_backward(const struct program *g); /* has W ops */

/* "F3.1", or "F3" when there are no chunks, into buf, which it returns. */
enum { OP_TEXT = 32 };
char *op_text(const struct op *o, bool chunks, char buf[static OP_TEXT]);
/* The other way: false when it is not an operation. */
bool op_parse(const char *text, struct op *o);

#endif
