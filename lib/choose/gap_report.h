/* SPDX-License-Identifier: MIT */
/* How far a plan is from the best of its job: for people, or as JSON. */
#ifndef CHOOSE_GAP_REPORT_H
#define CHOOSE_GAP_REPORT_H

#include <stdio.h>

#include "choose/gap.h"

/* -1 with error() when f cannot take it. */
int gap_print(const struct gap *g, FILE *f);
/* One object: plan, best (as search_json()'s layouts), slower, loses[], alone[], path[]. */
int gap_json(const struct gap *g, FILE *f);

#endif
