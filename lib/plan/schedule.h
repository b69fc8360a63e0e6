/* SPDX-License-Identifier: MIT */
/* Schedules: the program of every pipeline rank. */
#ifndef PLAN_SCHEDULE_H
#define PLAN_SCHEDULE_H

#include "plan/plan.h"

/* The schedule for every pipeline rank: names as in struct training. */
int schedule_make(struct plan *p);
extern const char *const schedule_name[4];
bool program_splits_backward(const struct program *g); /* has W ops */

#endif
