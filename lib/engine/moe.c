/* SPDX-License-Identifier: MIT */
/* The routed experts of a layer: dispatch, grouped GEMM, SwiGLU, grouped GEMM, combine. A row's router weight
 * multiplies its activation before the down projection (linear, so the same as after it), so the result rows
 * need not be kept. */
#include "engine/moe.h"

#include "base/error.h"
#include "engine/dispatch.h"
#include "engine/linear.h"
#include "engine/router.h"

/* The local experts and their rows of a pass. */
struct experts {
    int64_t El, F, stride; /* local experts, F', elements from one expert's weights to the next */
    const int32_t *row;    /* device [El+1] */
};

static struct experts experts_of(struct engine *e, const struct layer *w, struct acts *a, int pass)
{
    int64_t F = e->arena.ffn;
    return (struct experts){.El = w->slot[e->at.ep + 1] - w->slot[e->at.ep],
                            .F = F,
                            .stride = 3 * F * e->H,
                            .row = dispatch_order(e, w, a, pass)};
}

/* With ep a microbatch may need several passes, whose weight gradients its backward computes even where the
 * program leaves those to other operations: which of the two is the first for an expert only the rows say. */
static bool of_two_operations(const struct engine *e)
{
    return e->split && e->ep > 1;
}

/* y [rows,n] and x [rows,k] with the experts' [n,k] matrices that start at `w`; add: to gradients. */
static void grouped(struct engine *e, const struct experts *p, enum grouped_kind kind, int64_t n, int64_t k,
                    void *x, void *y, void *w, bool add)
{
    e->be->grouped_matmul(e->s,
                          &OP(grouped_matmul, .kind = kind, .experts = p->El, .rows = e->arena.row_capacity,
                              .row = p->row, .n = n, .k = k, .x = x, .ldx = k, .y = y, .ldy = n, .w = w,
                              .stride = p->stride, .beta = add, .type = e->type));
}

static void *down_of(struct engine *e, const struct experts *p, void *experts)
{
    return (char *)experts + (size_t)(2 * p->F * e->H) * type_bytes(e->type);
}

static void activate(struct engine *e, struct acts *a, const struct experts *p)
{
    e->be->swiglu(e->s, &OP(swiglu, .rows = e->arena.row_capacity, .width = p->F, .count = p->row + p->El,
                            .gate_up = a->gate_up, .weight = a->row_weight, .y = a->act, .type = e->type));
}

/* Rows of one pass, sent before, and what the experts make of them up to the down projection. */
static void fill_pass(struct engine *e, struct layer *w, struct acts *a, const struct experts *p)
{
    dispatch_rows(e, w, a->rows, a->row_weight);
    grouped(e, p, GROUPED_FORWARD, 2 * p->F, e->H, a->rows, a->gate_up, w->experts.w, false);
    activate(e, a, p);
}

int moe_route(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int layer)
{
    TRY(router_forward(e, w, a, layer));
    if (!e->replay) /* then all is as it was, and known */
        TRY(dispatch_counts(e, w, a));
    dispatch_pack(e, a, a->h2, a->rows, a->row_weight);
    if (e->replay && d->passes == 1)
        TRY(dispatch_send(e, w, d, 0, true));
    return router_statistics(e, w, a);
}

int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    TRY(dispatch_route(e, w, d));
    if (d->passes > 1)
        e->overflow++;
    for (int pass = 0; pass < d->passes; pass++) {
        TRY(dispatch_send(e, w, d, pass, true));
        struct experts p = experts_of(e, w, a, pass);
        fill_pass(e, w, a, &p);
        grouped(e, &p, GROUPED_FORWARD, e->H, p.F, a->act, e->ws->y_rows, down_of(e, &p, w->experts.w), false);
        TRY(combine_rows(e, w, d, pass, e->ws->y_rows, NULL));
    }
    return 0;
}

void moe_replay(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->passes > 1)
        return;
    struct experts p = experts_of(e, w, a, 0);
    fill_pass(e, w, a, &p);
}

void moe_combine(struct engine *e, struct acts *a, void *out)
{
    combine_tokens(e, a, e->ws->y_rows, NULL, out, NULL);
}

int moe_resend(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->passes > 1)
        return 0;
    dispatch_pack(e, a, a->h2, a->rows, a->row_weight);
    return dispatch_send(e, w, d, 0, true);
}

void moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->passes > 1)
        return;
    struct experts p = experts_of(e, w, a, 0);
    dispatch_rows(e, w, a->rows, a->row_weight);
    activate(e, a, &p);
}

static int send_gradients(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d,
                          const void *d_out, int pass)
{
    dispatch_pack(e, a, d_out, a->dy_rows, NULL);
    return dispatch_send(e, w, d, pass, false);
}

/* The first rows of a pass: where there are several, those that forward had are needed again. */
static int send_first(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                      int pass)
{
    if (d->passes == 1)
        return send_gradients(e, w, a, d, d_out, pass);
    dispatch_pack(e, a, a->h2, a->rows, a->row_weight);
    return dispatch_send(e, w, d, pass, true);
}

int moe_backward_send(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out)
{
    return send_first(e, w, a, d, d_out, 0);
}

static void down_weights(struct engine *e, const struct experts *p, struct layer *w, struct acts *a, bool add)
{
    grouped(e, p, GROUPED_WEIGHT, e->H, p->F, a->act, a->dy_rows, w->experts.g + 2 * p->F * e->H, add);
}

static void up_weights(struct engine *e, const struct experts *p, struct layer *w, struct acts *a, bool add)
{
    grouped(e, p, GROUPED_WEIGHT, 2 * p->F, e->H, a->rows, a->gate_up, w->experts.g, add);
}

/* The gradient of the weights of gate and up is computed while the rows travel back. */
static int backward_pass(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d,
                         const void *d_out, int pass)
{
    struct workspace *ws = e->ws;
    struct experts p = experts_of(e, w, a, pass);
    bool add = !e->fresh || pass > 0 || of_two_operations(e);
    if (d->passes > 1) {
        fill_pass(e, w, a, &p);
        TRY(send_gradients(e, w, a, d, d_out, pass));
    }
    dispatch_rows(e, w, a->dy_rows, NULL);
    grouped(e, &p, GROUPED_INPUT, e->H, p.F, ws->d_act, a->dy_rows, down_of(e, &p, w->experts.w), false);
    if (d->weights_done) /* before y_rows, which may be dy_rows, is written */
        down_weights(e, &p, w, a, add);
    e->be->swiglu_backward(e->s, &OP(swiglu_backward, .rows = e->arena.row_capacity, .width = p.F,
                                     .count = p.row + p.El, .gate_up = a->gate_up, .weight = a->row_weight,
                                     .dy = ws->d_act, .d_gate_up = a->gate_up, .d_weight = ws->d_row_weight,
                                     .type = e->type));
    grouped(e, &p, GROUPED_INPUT, 2 * p.F, e->H, ws->y_rows, a->gate_up, w->experts.w, false);
    TRY(combine_rows(e, w, d, pass, ws->y_rows, ws->d_row_weight));
    if (d->weights_done)
        up_weights(e, &p, w, a, add);
    return 0;
}

int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split)
{
    struct workspace *ws = e->ws;
    d->weights_done = !split || d->passes > 1;
    if (of_two_operations(e))
        gradient_begin(e, w->experts.g, (w->slot[e->at.ep + 1] - w->slot[e->at.ep]) * 3 * e->arena.ffn * e->H);
    for (int pass = 0; pass < d->passes; pass++) {
        if (pass > 0)
            TRY(send_first(e, w, a, d, d_out, pass));
        TRY(backward_pass(e, w, a, d, d_out, pass));
    }
    combine_tokens(e, a, ws->y_rows, ws->d_row_weight, ws->dh, ws->d_weight);
    router_backward_input(e, w, a);
    return 0;
}

int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d)
{
    if (d->weights_done)
        return 0;
    struct experts p = experts_of(e, w, a, 0);
    bool add = !e->fresh || of_two_operations(e);
    down_weights(e, &p, w, a, add);
    up_weights(e, &p, w, a, add);
    return 0;
}
