/* SPDX-License-Identifier: MIT */
/* The SwiGLU MLP (arXiv 2002.05202) of a dense layer, and a shared expert, which is one beside the routed ones.
 */
#include "engine/mlp.h"

#include "base/error.h"
#include "engine/linear.h"
#include "engine/parallel.h"

static bool gated(const struct layer *w)
{
    return w->mlp_switch.w != NULL;
}

void mlp_refill(struct engine *e, struct layer *w, struct acts *a)
{
    e->be->swiglu(e->s, &OP(swiglu, .rows = e->T, .width = w->mlp_width, .gate_up = a->mlp_gate_up,
                            .y = a->mlp_act, .type = e->type));
}

/* The sigmoid gate of Qwen2-MoE's shared expert: a->mlp_out times sigmoid(h2·switch) into y. */
static void gate_forward(struct engine *e, struct layer *w, struct acts *a, void *y)
{
    linear_f32(e, e->n, 1, e->H, a->h2, w->mlp_switch.w, a->mlp_gate);
    e->be->row_gate(e->s, &OP(row_gate, .rows = e->n, .width = e->H, .x = a->mlp_out, .g = a->mlp_gate, .y = y,
                              .type = e->type));
}

/* From the gradient of y to that of a->mlp_out in ws.mlp_dy and of the gate's logit in ws.mlp_dg. */
static void gate_backward(struct engine *e, struct acts *a, const void *dy)
{
    e->be->row_gate_backward(e->s,
                             &OP(row_gate_backward, .rows = e->n, .width = e->H, .x = a->mlp_out, .dy = dy,
                                 .g = a->mlp_gate, .dx = e->ws->mlp_dy, .dg = e->ws->mlp_dg, .type = e->type));
}

int mlp_up(struct engine *e, struct layer *w, struct acts *a)
{
    const void *h = tp_gather(e, a->h2, e->ws->gather, e->H);
    if (!h)
        return -1;
    linear(e, e->T, 2 * w->mlp_width, e->H, h, w->mlp_gate_up.w, a->mlp_gate_up);
    mlp_refill(e, w, a);
    return 0;
}

int mlp_down(struct engine *e, struct layer *w, struct acts *a, void *out)
{
    if (e->replay && !gated(w))
        return 0;
    void *y = gated(w) ? a->mlp_out : out;
    linear(e, e->T, e->H, w->mlp_width, a->mlp_act, w->mlp_down.w, tp_partial(e, y));
    TRY(tp_reduce(e, y));
    if (gated(w))
        gate_forward(e, w, a, out);
    return 0;
}

int mlp_backward_down(struct engine *e, struct layer *w, struct acts *a, const void *d_out, bool split)
{
    int64_t M = w->mlp_width;
    if (gated(w))
        gate_backward(e, a, d_out);
    const void *dg = tp_gather(e, gated(w) ? e->ws->mlp_dy : d_out, e->ws->gather_d, e->H);
    if (!dg)
        return -1;
    linear_input(e, e->T, e->H, M, dg, w->mlp_down.w, e->ws->mlp_d_act);
    if (!split)
        linear_weight(e, e->T, e->H, M, dg, a->mlp_act, w->mlp_down.g);
    e->be->swiglu_backward(e->s, &OP(swiglu_backward, .rows = e->T, .width = M, .gate_up = a->mlp_gate_up,
                                     .dy = e->ws->mlp_d_act, .d_gate_up = a->mlp_gate_up, .type = e->type));
    if (split)
        return 0;
    const void *h = tp_gather(e, a->h2, e->ws->gather, e->H);
    if (!h)
        return -1;
    linear_weight(e, e->T, 2 * M, e->H, a->mlp_gate_up, h, w->mlp_gate_up.g);
    return 0;
}

int mlp_backward_up(struct engine *e, struct layer *w, struct acts *a)
{
    if (gated(w))
        linear_f32_backward(e, 1, e->ws->mlp_dg, &w->mlp_switch, a->h2, e->ws->dh);
    void *dh = w->moe ? e->ws->branch : e->ws->dh;
    linear_input(e, e->T, 2 * w->mlp_width, e->H, a->mlp_gate_up, w->mlp_gate_up.w, tp_partial(e, dh));
    TRY(tp_reduce(e, dh));
    if (w->moe)
        add_into(e, e->n * e->H, e->ws->dh, dh);
    return 0;
}

int mlp_weights(struct engine *e, struct layer *w, struct acts *a, const void *d_out)
{
    int64_t M = w->mlp_width;
    const void *d = d_out;
    if (gated(w)) {
        gate_backward(e, a, d_out);
        d = e->ws->mlp_dy;
    }
    d = tp_gather(e, d, e->ws->gather_d, e->H);
    const void *h = d ? tp_gather(e, a->h2, e->ws->gather, e->H) : NULL;
    if (!h)
        return -1;
    linear_weight(e, e->T, e->H, M, d, a->mlp_act, w->mlp_down.g);
    linear_weight(e, e->T, 2 * M, e->H, a->mlp_gate_up, h, w->mlp_gate_up.g);
    return 0;
}
