/* SPDX-License-Identifier: MIT */
/* Where a plan's memory and time go, in a page. */
#ifndef COST_EXPLAIN_H
#define COST_EXPLAIN_H

#include <stdio.h>

#include "plan/plan.h"

/* Counted anew, whatever the plan predicts. -1 with error() as plan_simulate(), memory_of_rank() and
 * plan_seconds(). */
int plan_explain(const struct plan *p, FILE *f);

#endif
