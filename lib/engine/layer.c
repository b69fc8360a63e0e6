/* SPDX-License-Identifier: MIT */
/* One transformer layer: x2 = x + attention(norm(x)); y = x2 + ffn(norm(x2)), ffn being an MLP or a mixture of
 * experts. */
#include "engine/layer.h"

#include "base/error.h"
#include "engine/attention.h"
#include "engine/linear.h"
#include "engine/mlp.h"
#include "engine/moe.h"
#include "engine/norm.h"

struct here {
    struct layer *w;
    struct acts *a;
    struct dispatch *d;
    int layer;
};

static struct here locate(struct engine *e, struct stash *stash, int i)
{
    int layer = e->plan->stages[stash->stage].first + i;
    return (struct here){.w = &e->layers[layer],
                         .a = &stash->acts[i],
                         .d = &e->dispatch[(stash - e->arena.stashes) * e->dispatch_stride + i],
                         .layer = layer};
}

/* The shared expert goes where the routed ones wait: its first half while the counts and then the rows are
 * under way, its second half while the results are. */
static int forward_moe(struct engine *e, struct here *at)
{
    struct layer *w = at->w;
    TRY(moe_route(e, w, at->a, at->d, at->layer));
    if (w->mlp_width)
        TRY(mlp_up(e, w, at->a));
    if (e->replay)
        moe_replay(e, w, at->a, at->d);
    else
        TRY(moe_forward(e, w, at->a, at->d));
    if (w->mlp_width)
        TRY(mlp_down(e, w, at->a, e->ws->dh));
    if (e->replay)
        return 0;
    moe_combine(e, at->a, e->ws->branch);
    if (w->mlp_width)
        add_into(e, e->n * e->H, e->ws->branch, e->ws->dh);
    return 0;
}

/* Everything a layer keeps, and its ffn branch in ws.branch (not in a replay). */
static int forward(struct engine *e, struct here *at, const void *x)
{
    TRY(attention_forward(e, at->w, at->a, x));
    norm(e, at->a->x2, &at->w->post_norm, at->a->h2);
    if (at->w->moe)
        return forward_moe(e, at);
    if (!at->w->mlp_width)
        return 0;
    TRY(mlp_up(e, at->w, at->a));
    return mlp_down(e, at->w, at->a, e->ws->branch);
}

int layer_forward(struct engine *e, struct stash *stash, int i)
{
    struct here at = locate(e, stash, i);
    TRY(forward(e, &at, stash->x[i]));
    e->be->add(e->s, &OP(add, .count = e->n * e->H, .a = at.a->x2, .b = e->ws->branch, .y = stash->x[i + 1],
                         .type = e->type));
    return 0;
}

/* Fills again what recompute did not keep. */
static int refill(struct engine *e, struct here *at, const void *x)
{
    switch (e->plan->training.recompute) {
    case RECOMPUTE_NONE:
        return 0;
    case RECOMPUTE_FULL:
        e->replay = true;
        int r = forward(e, at, x);
        e->replay = false;
        return r;
    case RECOMPUTE_SELECTIVE:
        norm(e, x, &at->w->input_norm, at->a->h);
        if (!fault("recompute-stale"))
            norm(e, at->a->x2, &at->w->post_norm, at->a->h2);
        if (at->w->moe)
            TRY(moe_resend(e, at->w, at->a, at->d));
        if (at->w->mlp_width)
            mlp_refill(e, at->w, at->a);
        if (at->w->moe)
            moe_refill(e, at->w, at->a, at->d);
        return 0;
    }
    return 0;
}

int layer_backward(struct engine *e, struct stash *stash, int i, void *d, bool split)
{
    struct here at = locate(e, stash, i);
    size_t bytes = (size_t)(e->n * e->H) * type_bytes(e->type);
    bool keep = split && at.w->mlp_width;
    TRY(refill(e, &at, stash->x[i]));
    if (keep)
        e->be->copy(e->s, e->ws->keep_d, d, bytes);
    if (at.w->moe)
        TRY(moe_backward_send(e, at.w, at.a, at.d, d));
    if (at.w->mlp_width) /* while they travel */
        TRY(mlp_backward_down(e, at.w, at.a, d, split));
    if (at.w->moe)
        TRY(moe_backward(e, at.w, at.a, at.d, d, split));
    if (at.w->mlp_width)
        TRY(mlp_backward_up(e, at.w, at.a));
    norm_backward_add(e, at.a->x2, &at.w->post_norm, e->ws->dh, d);
    TRY(attention_backward(e, at.w, at.a, stash->x[i], d, split));
    if (keep) /* the layer's input is not needed any more: it keeps the gradient of the output for
                 layer_weights() */
        e->be->copy(e->s, stash->x[i], e->ws->keep_d, bytes);
    return 0;
}

int layer_weights(struct engine *e, struct stash *stash, int i)
{
    struct here at = locate(e, stash, i);
    if (fault("weights-skipped"))
        return 0;
    if (at.w->moe)
        TRY(moe_weights(e, at.w, at.a, at.d));
    if (at.w->mlp_width)
        TRY(mlp_weights(e, at.w, at.a, stash->x[i]));
    return attention_weights(e, at.w, at.a);
}
