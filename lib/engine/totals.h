/* SPDX-License-Identifier: MIT */
/* What a step tells: its sums are counted on the device (cost/arena.h: struct step_state) while it runs,
 * added up over all ranks there, and come down once, when everything else of the step has been queued. */
#ifndef ENGINE_TOTALS_H
#define ENGINE_TOTALS_H

#include "engine/engine.h"

/* Before a step, or a batch that is evaluated. */
void totals_clear(struct engine *e);
/* total += scale · Σ x·y (y NULL: of x), on the one rank of its tp group that counts. */
void totals_count(struct engine *e, int64_t count, const float *x, const float *y, double scale, double *total);
/* Collective over the job: everyone's, on all. */
int totals_sum(struct engine *e);
/* Waits for what was queued: e->figures is filled. */
int totals_fetch(struct engine *e);

#endif
