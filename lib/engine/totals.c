/* SPDX-License-Identifier: MIT */
#include "engine/totals.h"

#include "comm/collective.h"

void totals_clear(struct engine *e)
{
    e->be->zero(e->s, e->arena.step, (size_t)e->arena.step_bytes);
    e->overflow = 0;
    e->capture.runs = 0;
}

void totals_count(struct engine *e, int64_t count, const float *x, const float *y, double scale, double *total)
{
    if (e->at.tp == 0)
        e->be->total(e->s, &OP(total, .count = count, .x = x, .y = y, .scale = scale, .out = total));
}

int totals_sum(struct engine *e)
{
    struct totals *t = &e->arena.step->totals;
    return tree_sum_f64(comm_world(e->comm), e->s, (double *)t, sizeof *t / sizeof(double));
}

int totals_fetch(struct engine *e)
{
    return e->be->download(left_out("figures-not-awaited") ? e->side : e->s, e->figures, e->arena.step,
                           (size_t)e->arena.step_bytes);
}
