/* SPDX-License-Identifier: MIT */
#include "engine/norm.h"

#include "engine/linear.h"

void norm(struct engine *e, const void *x, const struct weight *w, void *y)
{
    e->be->rmsnorm(e->s, &OP(rmsnorm, .rows = e->n, .heads = 1, .width = e->H, .x = x, .ldx = e->H, .w = w->w,
                             .y = y, .ldy = e->H, .eps = (float)e->model->norm_eps, .type = e->type));
}

static void backward(struct engine *e, const void *x, const struct weight *w, const void *dy, void *dx,
                     bool accumulate)
{
    gradient_begin(e, w->g, e->H);
    e->be->rmsnorm_backward(e->s,
                            &OP(rmsnorm_backward, .rows = e->n, .heads = 1, .width = e->H, .x = x, .ldx = e->H,
                                .w = w->w, .dy = dy, .lddy = e->H, .dx = dx, .lddx = e->H, .dw = w->g,
                                .accumulate = accumulate, .eps = (float)e->model->norm_eps, .type = e->type));
}

void norm_backward(struct engine *e, const void *x, const struct weight *w, const void *dy, void *dx)
{
    backward(e, x, w, dy, dx, false);
}

void norm_backward_add(struct engine *e, const void *x, const struct weight *w, const void *dy, void *dx)
{
    backward(e, x, w, dy, dx, true);
}
