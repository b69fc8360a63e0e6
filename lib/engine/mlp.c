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
    e->be->swiglu(e->s, &(struct swiglu){e->T, w->mlp_width, a->mlp_gate_up, NULL, a->mlp_act, e->type});
}

/* The sigmoid gate of Qwen2-MoE's shared expert: a->mlp_out times sigmoid(h2·switch) into y. */
static void gate_forward(struct engine *e, struct layer *w, struct acts *a, void *y)
{
    e->be->matmul(e->s, &(struct matmul){.m = e->n,
                                         .n = 1,
                                         .k = e->H,
                                         .tb = true,
                                         .a = a->h2,
                                         .lda = e->H,
                                         .b = w->mlp_switch.w,
                                         .ldb = e->H,
                                         .c = a->mlp_gate,
                                         .ldc = 1,
                                         .in = e->type,
                                         .out = F32});
    e->be->row_gate(e->s, &(struct row_gate){e->n, e->H, a->mlp_out, a->mlp_gate, y, e->type});
}

int mlp_forward(struct engine *e, struct layer *w, struct acts *a, void *out)
{
    int64_t M = w->mlp_width;
    const void *h = tp_gather(e, a->h2, e->ws->gather, e->H);
    if (!h)
        return -1;
    linear(e, e->T, 2 * M, e->H, h, w->mlp_gate_up.w, a->mlp_gate_up);
    mlp_refill(e, w, a);
    if (e->replay && !gated(w))
        return 0;
    /* A dense layer's result is the branch itself; a shared expert's is added to the routed ones'. */
    void *y = gated(w) ? a->mlp_out : w->moe ? e->ws->dh : out;
    linear(e, e->T, e->H, M, a->mlp_act, w->mlp_down.w, tp_partial(e, y));
    TRY(tp_reduce(e, y));
    if (gated(w))
        gate_forward(e, w, a, e->ws->dh);
    if (w->moe)
        add_into(e, e->n * e->H, out, e->ws->dh);
    return 0;
}

int mlp_backward(struct engine *e, struct layer *w, struct acts *a, const void *d_out, bool split)
{
    int64_t M = w->mlp_width;
    const void *d = d_out;
    if (gated(w)) {
        e->be->row_gate_backward(e->s, &(struct row_gate_backward){e->n, e->H, a->mlp_out, d_out, a->mlp_gate,
                                                                   e->ws->mlp_dy, e->ws->mlp_dg, e->type});
        linear_f32_backward(e, 1, e->ws->mlp_dg, &w->mlp_switch, a->h2, e->ws->dh);
        d = e->ws->mlp_dy;
    }
    const void *dg = tp_gather(e, d, e->ws->gather_d, e->H);
    if (!dg)
        return -1;
    linear_input(e, e->T, e->H, M, dg, w->mlp_down.w, e->ws->mlp_d_act);
    if (!split)
        linear_weight(e, e->T, e->H, M, dg, a->mlp_act, w->mlp_down.g);
    e->be->swiglu_backward(e->s, &(struct swiglu_backward){e->T, M, a->mlp_gate_up, NULL, e->ws->mlp_d_act,
                                                           a->mlp_gate_up, NULL, e->type});
    if (!split) {
        const void *h = tp_gather(e, a->h2, e->ws->gather, e->H);
        if (!h)
            return -1;
        linear_weight(e, e->T, 2 * M, e->H, a->mlp_gate_up, h, w->mlp_gate_up.g);
    }
    void *dh = w->moe ? e->ws->branch : e->ws->dh;
    linear_input(e, e->T, 2 * M, e->H, a->mlp_gate_up, w->mlp_gate_up.w, tp_partial(e, dh));
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
        e->be->row_gate_backward(e->s, &(struct row_gate_backward){e->n, e->H, a->mlp_out, d_out, a->mlp_gate,
                                                                   e->ws->mlp_dy, e->ws->mlp_dg, e->type});
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
