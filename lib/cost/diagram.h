/* SPDX-License-Identifier: MIT */
/* A schedule drawn over time. */
#ifndef COST_DIAGRAM_H
#define COST_DIAGRAM_H

#include "plan/plan.h"

/* A row a pipeline rank, a column a unit of time (F 1; B 2, or 1 with W 1); then span, bubble and microbatches
 * held. -1 with error() as plan_simulate(). */
int plan_diagram(const struct plan *p, FILE *f);

#endif
