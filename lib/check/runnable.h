/* SPDX-License-Identifier: MIT */
/* What moe-train asks of a plan before it trusts it. */
#ifndef CHECK_RUNNABLE_H
#define CHECK_RUNNABLE_H

#include "plan/plan.h"

/* -1 with error() when it cannot run it (cp > 1, zero > 1, fp8, …:
 * status 2) or when the plan contradicts itself (status 1, the rule). */
int plan_runnable(const struct plan *p);

#endif
