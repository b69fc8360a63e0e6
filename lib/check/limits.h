/* SPDX-License-Identifier: MIT */
/* What can be planned, for other trainers, but not run by moe-train. */
#ifndef CHECK_LIMITS_H
#define CHECK_LIMITS_H

#include "plan/plan.h"

/* -1 with error() (status 2) naming all such things in the plan. */
int plan_within_limits(const struct plan *p);

#endif
