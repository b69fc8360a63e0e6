/* SPDX-License-Identifier: MIT */
/* Layers to virtual stages. Virtual stage V is on pipeline rank V mod pp as its chunk V div pp. */
#ifndef PLAN_SPLIT_H
#define PLAN_SPLIT_H

#include "plan/plan.h"

/* Sets p->stages from "4,3,4,5", "auto" or NULL (even). -1 with error() (status 2). */
int split_make(struct plan *p, const char *split);
/* Arithmetic of each pipeline rank, in parameters that a token meets (attention's scores counted so), the head
 * included: what "auto" makes even. cost[pp]. */
void split_costs(const struct plan *p, double *cost);

#endif
