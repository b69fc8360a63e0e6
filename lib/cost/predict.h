/* SPDX-License-Identifier: MIT */
/* The predicted figures of a plan. */
#ifndef COST_PREDICT_H
#define COST_PREDICT_H

#include "plan/plan.h"

/* Fills p->predict anew. -1 with error() as plan_simulate() and memory_predict(). */
int plan_predict(struct plan *p);

#endif
