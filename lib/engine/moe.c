/* SPDX-License-Identifier: MIT */
/* The routed experts of a layer: dispatch, grouped GEMM, SwiGLU, grouped GEMM, combine. A row's router weight
 * multiplies its activation before the down projection (linear, so the same as after it), so the result rows
 * need not be kept. */
#include "engine/moe.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/dispatch.h"
#include "engine/router.h"

struct experts {
    int64_t El, F, stride; /* local experts, F', elements from one expert's weights to the next */
    int64_t *row;          /* host [El+1] */
    int *which;            /* host [El] */
};

static struct experts experts_open(struct engine *e)
{
    int64_t El = e->E / e->ep, F = e->arena.ffn;
    struct experts x = {.El = El, .F = F, .stride = 3 * F * e->H};
    x.row = xmalloc((size_t)(El + 1) * sizeof *x.row);
    x.which = xmalloc((size_t)El * sizeof *x.which);
    for (int i = 0; i < El; i++)
        x.which[i] = i;
    return x;
}

static void experts_close(struct experts *x)
{
    free(x->row);
    free(x->which);
}

/* y [rows,n] and x [rows,k] with the experts' [n,k] matrices that start at `w`. */
static void grouped(struct engine *e, const struct experts *p, enum grouped_kind kind, int64_t n, int64_t k,
                    void *x, void *y, void *w)
{
    e->be->grouped_matmul(e->s, &OP(grouped_matmul, .kind = kind, .segments = (int)p->El, .row = p->row,
                                    .which = p->which, .n = n, .k = k, .x = x, .ldx = k, .y = y, .ldy = n,
                                    .w = w, .stride = p->stride, .type = e->type));
}

static void *down_of(struct engine *e, const struct experts *p, void *experts)
{
    return (char *)experts + (size_t)(2 * p->F * e->H) * type_bytes(e->type);
}

static void activate(struct engine *e, struct acts *a, const struct experts *p)
{
    e->be->swiglu(e->s, &OP(swiglu, .rows = p->row[p->El], .width = p->F, .gate_up = a->gate_up,
                            .weight = a->row_weight, .y = a->act, .type = e->type));
}

/* Rows of one pass and what the experts make of them up to the down projection. */
static int fill_pass(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int pass,
                     struct experts *p)
{
    dispatch_segments(e, d, pass, p->row);
    TRY(dispatch_rows(e, a, d, pass, a->h2, a->rows, a->row_weight));
    grouped(e, p, GROUPED_FORWARD, 2 * p->F, e->H, a->rows, a->gate_up, w->experts.w);
    activate(e, a, p);
    return 0;
}

static int forward_passes(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d,
                          struct experts *p)
{
    for (int pass = 0; pass < d->passes; pass++) {
        TRY(fill_pass(e, w, a, d, pass, p));
        if (e->replay)
            return 0; /* backward fills the passes itself when there are several */
        grouped(e, p, GROUPED_FORWARD, e->H, p->F, a->act, e->ws->y_rows, down_of(e, p, w->experts.w));
        TRY(combine_rows(e, d, pass, e->ws->y_rows, NULL));
    }
    return 0;
}

int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int layer, void *out)
{
    TRY(router_forward(e, w, a, layer));
    TRY(dispatch_route(e, d));
    if (d->passes > 1 && !e->replay)
        e->overflow++;
    struct experts p = experts_open(e);
    int r = forward_passes(e, w, a, d, &p);
    experts_close(&p);
    if (r == 0 && !e->replay)
        combine_tokens(e, a, d, e->ws->y_rows, NULL, out, NULL);
    return r;
}

int moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->passes > 1)
        return 0;
    struct experts p = experts_open(e);
    dispatch_segments(e, d, 0, p.row);
    int r = dispatch_rows(e, a, d, 0, a->h2, a->rows, a->row_weight);
    activate(e, a, &p);
    experts_close(&p);
    return r;
}

static void weight_products(struct engine *e, struct layer *w, struct acts *a, const struct experts *p)
{
    grouped(e, p, GROUPED_WEIGHT, e->H, p->F, a->act, a->dy_rows, w->experts.g + 2 * p->F * e->H);
    grouped(e, p, GROUPED_WEIGHT, 2 * p->F, e->H, a->rows, a->gate_up, w->experts.g);
}

static int backward_passes(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d,
                           const void *d_out, bool split, struct experts *p)
{
    struct workspace *ws = e->ws;
    for (int pass = 0; pass < d->passes; pass++) {
        if (d->passes > 1)
            TRY(fill_pass(e, w, a, d, pass, p));
        dispatch_segments(e, d, pass, p->row);
        TRY(dispatch_rows(e, a, d, pass, d_out, a->dy_rows, NULL));
        grouped(e, p, GROUPED_INPUT, e->H, p->F, ws->d_act, a->dy_rows, down_of(e, p, w->experts.w));
        if (!split || d->passes > 1) /* act must be read before gate_up turns into its gradient */
            grouped(e, p, GROUPED_WEIGHT, e->H, p->F, a->act, a->dy_rows, w->experts.g + 2 * p->F * e->H);
        e->be->swiglu_backward(e->s,
                               &OP(swiglu_backward, .rows = p->row[p->El], .width = p->F, .gate_up = a->gate_up,
                                   .weight = a->row_weight, .dy = ws->d_act, .d_gate_up = a->gate_up,
                                   .d_weight = ws->d_row_weight, .type = e->type));
        if (!split || d->passes > 1)
            grouped(e, p, GROUPED_WEIGHT, 2 * p->F, e->H, a->rows, a->gate_up, w->experts.g);
        grouped(e, p, GROUPED_INPUT, 2 * p->F, e->H, ws->y_rows, a->gate_up, w->experts.w);
        TRY(combine_rows(e, d, pass, ws->y_rows, ws->d_row_weight));
    }
    d->weights_done = !split || d->passes > 1;
    return 0;
}

int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split)
{
    struct workspace *ws = e->ws;
    struct experts p = experts_open(e);
    int r = backward_passes(e, w, a, d, d_out, split, &p);
    experts_close(&p);
    if (r < 0)
        return -1;
    e->be->zero(e->s, ws->d_weight, (size_t)(e->n * e->K) * 4); /* dropped choices have no gradient */
    combine_tokens(e, a, d, ws->y_rows, ws->d_row_weight, ws->dh, ws->d_weight);
    router_backward_input(e, w, a);
    return 0;
}

int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->weights_done)
        return 0;
    struct experts p = experts_open(e);
    dispatch_segments(e, d, 0, p.row);
    weight_products(e, w, a, &p);
    experts_close(&p);
    return 0;
}
