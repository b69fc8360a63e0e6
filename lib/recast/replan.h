/* SPDX-License-Identifier: MIT */
/* A step's plan.moe for a model that has changed. */
#ifndef RECAST_REPLAN_H
#define RECAST_REPLAN_H

#include <stddef.h>
#include <stdint.h>

/* The text of a plan like that of the step directory, for the model of so many experts whose config.json lies
 * in `model`: the same layout if that is legal; else with ep made smaller; else, which is said, one for one
 * rank. Caller frees; NULL with error(). */
char *replan_text(const char *step, const char *model, int64_t experts, size_t *bytes);

#endif
