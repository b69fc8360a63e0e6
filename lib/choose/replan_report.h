/* SPDX-License-Identifier: MIT */
/* What a loss takes, and what the plan for the rest makes of it, in a page. */
#ifndef CHOOSE_REPLAN_REPORT_H
#define CHOOSE_REPLAN_REPORT_H

#include <stdio.h>

#include "choose/replan.h"

int replan_report(const struct replan_request *r, const struct replanned *n, FILE *out);

#endif
