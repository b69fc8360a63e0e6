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

/* Everything a layer keeps, and its ffn branch in ws.branch (not in a replay). */
static int forward(struct engine *e, struct here *at, const void *x)
{
    TRY(attention_forward(e, at->w, at->a, x));
    norm(e, at->a->x2, &at->w->post_norm, at->a->h2);
    if (!at->w->moe)
        return at->w->mlp_width ? mlp_forward(e, at->w, at->a, e->ws->branch) : 0;
    /* The shared expert goes between the router and the rows: it needs neither, and meanwhile the counts come.
     * */
    TRY(moe_route(e, at->w, at->a, at->layer));
    if (at->w->mlp_width)
        TRY(mlp_forward(e, at->w, at->a, e->ws->dh));
    TRY(moe_forward(e, at->w, at->a, at->d, e->ws->branch));
    if (at->w->mlp_width && !e->replay)
        add_into(e, e->n * e->H, e->ws->branch, e->ws->dh);
    return 0;
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
        if (at->w->mlp_width)
            mlp_refill(e, at->w, at->a);
        return at->w->moe ? moe_refill(e, at->w, at->a, at->d) : 0;
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
        TRY(moe_backward(e, at.w, at.a, at.d, d, split));
    if (at.w->mlp_width)
        TRY(mlp_backward(e, at.w, at.a, d, split));
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
