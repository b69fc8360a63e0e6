/* SPDX-License-Identifier: MIT */
/* Reports: the same figures for people, for jq and for a spreadsheet. */
#ifndef STAT_REPORT_H
#define STAT_REPORT_H

#include <stdio.h>

#include "stat/summary.h"

/* `skip` as summary_skipped() has it; `loads` may be NULL. */
void report_text(FILE *f, struct steplog *log, const struct loads *loads, const struct summary *s,
                 int64_t skip);
void report_json(FILE *f, struct steplog *log, const struct summary *s); /* one object; null where unknown */
void report_csv(FILE *f, struct steplog *log, const struct summary *s); /* names, values; empty where unknown */

/* A line a MoE layer, E numbers: the loads summed over the log. -1 with error() set when there are none. */
int report_loads(FILE *f, const struct loads *l);

#endif
