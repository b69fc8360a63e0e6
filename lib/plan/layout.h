/* SPDX-License-Identifier: MIT */
/* From axes to ranks: everyone's coordinates, and the groups that they make. */
#ifndef PLAN_LAYOUT_H
#define PLAN_LAYOUT_H

#include "plan/plan.h"

/* ranks, groups and group_index of a plan whose axes, world and machine are set and legal. */
void layout_make(struct plan *p);
/* group_index from groups. A rank in two groups of a kind has the later one. */
void layout_index(struct plan *p);
/* The rank that stands there, by arithmetic: of the coordinates tp, cp, dp and pp are looked at, or etp, ep,
 * edp and pp. Rules axes-order and ranks-coords. */
int layout_dense_rank(const struct axes *a, const struct coords *at);
int layout_expert_rank(const struct axes *a, const struct coords *at);

#endif
