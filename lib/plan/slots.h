/* SPDX-License-Identifier: MIT */
/* Where the experts are: a table of slots a layer, and all that depends on how many of them a rank has. Nothing
 * else divides experts by ep ranks. */
#ifndef PLAN_SLOTS_H
#define PLAN_SLOTS_H

#include "plan/plan.h"

/* An expert of a layer on an ep rank. */
struct expert_place {
    int layer, ep, expert;
};

/* The plan's slots from a list: on each rank in its order. */
void slots_set(struct plan *p, const struct expert_place *list, int64_t count);
/* Contiguous, as even as can be: of 64 experts over 15 ranks the first four have 5, the others 4. */
void slots_set_even(struct plan *p);
void slots_release(struct slots *s);

/* The slots of one ep rank in a layer: how many, and the first of them. Before the plan has slots they are as
 * slots_set_even() makes them. */
int64_t plan_slots(const struct plan *p, int64_t layer, int64_t ep, int64_t *first);
/* How many a MoE layer has over all ep ranks. */
int64_t plan_layer_slots(const struct plan *p, int64_t layer);
static inline int64_t plan_layer_slot(const struct plan *p, int64_t layer, int64_t expert)
{
    return p->slots.of[layer * p->model.experts + expert];
}
static inline int plan_slot_expert(const struct plan *p, int64_t layer, int64_t slot)
{
    return p->slots.expert[layer * p->slots.most + slot];
}
/* The pipeline rank that has the layer (rule stages-cover). */
int plan_layer_pp(const struct plan *p, int64_t layer);
/* The ep rank that has the slot. */
int plan_slot_holder(const struct plan *p, int64_t layer, int64_t slot);

/* The most that any ep rank has in any layer, and the fewest of a MoE layer. */
int64_t plan_most_slots(const struct plan *p);
int64_t plan_least_slots(const struct plan *p);
/* Rows of the rank with most slots over the mean, when every slot gets as many: 1 where all have as many. */
double plan_unevenness(const struct plan *p);
/* Whether every ep rank has as many slots, in every MoE layer. */
bool plan_slots_alike(const struct plan *p);
/* Slots beyond one for each expert, of the layer with most. */
int64_t plan_replicas(const struct plan *p);

#endif
