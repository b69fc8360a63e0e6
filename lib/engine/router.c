/* SPDX-License-Identifier: MIT */
/* The router: which experts each token goes to, with what weight, what is dropped, and the auxiliary losses.
 * All of it is a function of the microbatch: what one token's fate takes from other tokens (capacity,
 * statistics) is gathered over the tp group. */
#include "engine/router.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "engine/linear.h"
#include "engine/loads.h"
#include "engine/losses.h"
#include "engine/totals.h"

static struct router router_of(struct engine *e, struct layer *w, struct acts *a)
{
    const struct model *m = e->model;
    return OP(router, .tokens = e->n, .experts = e->E, .top_k = e->K, .sigmoid = m->sigmoid,
              .renormalise = m->renormalise, .scale = (float)m->route_scale, .groups = (int)m->groups,
              .top_groups = (int)m->top_groups, .logits = a->logits, .bias = w->router_bias,
              .scores = a->scores, .lse = a->rlse, .topk = a->topk, .weight = a->weight,
              .margin = e->ws->margin);
}

/* One record of the routing dump: seven int64 (step, microbatch, layer, first token, n, E, K), topk [n,K],
 * margin [n]. */
static int dump_routing(struct engine *e, struct acts *a, int layer)
{
    size_t choices = (size_t)(e->n * e->K);
    int32_t *topk = xmalloc(choices * 4);
    float *margin = xmalloc((size_t)e->n * 4);
    int64_t head[7] = {e->step, e->microbatch, layer, e->at.tp * e->n, e->n, e->E, e->K};
    FILE *f = e->routing_dump;
    int r = e->be->download(e->s, topk, a->topk, choices * 4);
    if (r == 0)
        r = e->be->download(e->s, margin, e->ws->margin, (size_t)e->n * 4);
    if (r == 0 && (fwrite(head, sizeof head, 1, f) != 1 || fwrite(topk, 4, choices, f) != choices ||
                   fwrite(margin, 4, (size_t)e->n, f) != (size_t)e->n))
        r = error_errno("cannot write the routing dump");
    free(topk);
    free(margin);
    return r;
}

/* keep [n,K] for this rank's tokens, decided over the whole microbatch; NULL when nothing can be dropped. */
static int apply_capacity(struct engine *e, struct acts *a, const int32_t **keep)
{
    struct workspace *ws = e->ws;
    *keep = NULL;
    int64_t tokens = fault("capacity-local") ? e->n : e->T;
    int64_t capacity = plan_expert_capacity(e->plan, tokens);
    if (capacity == 0 || capacity > tokens)
        return 0;
    const int32_t *topk = a->topk;
    const float *weight = a->weight;
    if (e->tp > 1 && tokens == e->T) {
        size_t bytes = (size_t)(e->n * e->K) * 4;
        enum phase before = profile_enter(&e->profile, PHASE_TP);
        TRY(all_gather(e->group[GROUP_TP], e->s, a->topk, ws->all_topk, bytes));
        TRY(all_gather(e->group[GROUP_TP], e->s, a->weight, ws->all_weight, bytes));
        profile_enter(&e->profile, before);
        topk = ws->all_topk;
        weight = ws->all_weight;
    }
    e->be->capacity(e->s, &OP(capacity, .tokens = tokens, .experts = e->E, .top_k = e->K, .capacity = capacity,
                              .by_prob = !e->plan->routing.drop_position, .topk = topk, .weight = weight,
                              .keep = ws->all_keep, .dropped = ws->dropped, .seq = e->plan->batch.seq));
    *keep = ws->all_keep + (tokens == e->T ? e->at.tp * e->n * e->K : 0);
    if (!e->replay && !e->evaluate)
        totals_count(e, 1, ws->dropped, NULL, 1, &e->arena.step->totals.dropped);
    return 0;
}

/* Statistics over the microbatch (losses.h): the losses, what their gradients need, and the loads. */
int router_statistics(struct engine *e, struct layer *w, struct acts *a)
{
    int64_t E = e->E;
    float *stats = e->ws->stats;
    e->be->router_stats(e->s, &OP(router_stats, .tokens = e->n, .experts = E, .top_k = e->K,
                                  .sigmoid = e->model->sigmoid, .scores = a->scores, .lse = a->rlse,
                                  .topk = a->topk, .prob = stats, .count = stats + E, .z = stats + 2 * E));
    if (e->tp > 1 && !fault("aux-statistics-local")) {
        enum phase before = profile_enter(&e->profile, PHASE_TP);
        TRY(all_reduce(e->group[GROUP_TP], e->s, stats, router_stats_count(e)));
        profile_enter(&e->profile, before);
    }
    losses_keep(e, a, stats);
    if (e->replay || e->evaluate)
        return 0;
    loads_count(e, w->moe_index, stats + E);
    losses_count(e, stats);
    return 0;
}

int router_forward(struct engine *e, struct layer *w, struct acts *a, int layer)
{
    linear_f32(e, e->n, e->E, e->H, a->h2, w->router.w, a->logits);
    struct router op = router_of(e, w, a);
    e->be->router(e->s, &op);
    if (e->routing_dump && !e->replay && !e->evaluate)
        TRY(dump_routing(e, a, layer));
    const int32_t *keep;
    TRY(apply_capacity(e, a, &keep));
    e->be->sort_choices(e->s, &OP(sort_choices, .tokens = e->n, .experts = e->E, .top_k = e->K, .topk = a->topk,
                                  .keep = keep, .slot_of = e->arena.slot_of + (int64_t)layer * e->E,
                                  .count = e->ws->counts, .first = a->first, .position = a->position,
                                  .source = a->source));
    return 0;
}

void router_backward_input(struct engine *e, struct layer *w, struct acts *a)
{
    struct router_backward op = {.fwd = router_of(e, w, a), .d_weight = e->ws->d_weight, .dlogits = a->scores};
    losses_gradient(e, a, &op);
    e->be->router_backward(e->s, &op);
    linear_f32_backward(e, e->E, a->scores, &w->router, a->h2, e->ws->dh);
}
