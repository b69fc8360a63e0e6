/* SPDX-License-Identifier: MIT */
/* The losses of a router (names: base/losses.h): their values and gradients, for one MoE layer and microbatch.
 *
 * All are made from the same statistics, `stats` [2E+1] f32, sums over the T tokens of the microbatch:
 *   [0,E)    P_e = Σ_t p_te, p a token's probabilities over the experts
 *   [E,2E)   C_e: how many tokens chose expert e
 *   [2E]     Σ_t lse_t², lse the logsumexp of a token's logits
 * The kernels make them in one pass over the tokens (router_stats), and add all gradients to the logits in
 * another (router_backward): there the losses stay together. To add one: a row in base/losses.h and one in
 * losses.c, and in the kernels, with ref first, what its row cannot make from these statistics. */
#ifndef ENGINE_LOSSES_H
#define ENGINE_LOSSES_H

#include "engine/engine.h"

static inline int64_t router_stats_count(const struct engine *e)
{
    return 2 * e->E + 1;
}
/* Adds each loss to the step's totals. */
void losses_count(struct engine *e, const float *stats);
/* What backward needs of the statistics, into the layer's `a`. */
void losses_keep(struct engine *e, struct acts *a, const float *stats);
/* Their part of backward's operation. */
void losses_gradient(const struct engine *e, const struct acts *a, struct router_backward *op);

#endif
