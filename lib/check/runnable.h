/* SPDX-License-Identifier: MIT */
/* What moe-train asks of a plan before it trusts it. */
#ifndef CHECK_RUNNABLE_H
#define CHECK_RUNNABLE_H

#include "plan/plan.h"

/* -1 with error(): a rule fails, with that status. Memory is not asked of: the machine that the plan starts on
 * may have more. */
int plan_valid(const struct plan *p, int status);
/* -1 with error() (status 1): a rule fails, so that nothing can be said of the plan. Memory is not asked of,
 * nor are predictions, which are made anew. */
int plan_sound(const struct plan *p);

/* -1 with error(): a rule fails (status 1), or it is sound but has what moe-train cannot run (cp > 1, zero >
 * 1, fp8, …: status 2). */
int plan_runnable(const struct plan *p);

/* Says by notice() what is legal, and may not be meant: what check/check.c warns of under these rules. */
void plan_remarks(const struct plan *p);

#endif
