/* SPDX-License-Identifier: MIT */
/* Reports: the same figures for people, for jq, for a spreadsheet, for a paper and for Prometheus. */
#ifndef STAT_REPORT_H
#define STAT_REPORT_H

#include <stdio.h>

#include "stat/summary.h"

struct report {
    struct steplog *log;
    const struct loads *loads; /* or NULL: were not read */
    struct summary s;
    int64_t skip; /* steps that were left out of speed (summary_skipped()) */
    bool warmup;  /* because they were warm-up */
};

/* Figures that go together, for tables: from one to another of base/figures.h. A NULL ends the list. */
struct report_group {
    const char *title;
    enum figure_id first, last;
};
extern const struct report_group report_groups[];

void report_text(FILE *f, const struct report *r);
void report_markdown(FILE *f, const struct report *r);
/* One object: null where unknown; `detail` has what is no single figure. */
void report_json(FILE *f, const struct report *r);
void report_csv(FILE *f, const struct report *r); /* names, values; empty where unknown */
/* The text format that Prometheus scrapes, and node_exporter's textfile collector reads: a gauge a figure that
 * is known. Names are those of the figures with moe_ before them, but units are written out as Prometheus
 * wants it: step_s_p50 is moe_step_seconds_p50. */
void report_prom(FILE *f, const struct report *r);
/* The name of a figure there. Returns buf. */
char *prom_name(const struct figure *f, char buf[static 64]);

/* A line a MoE layer, E numbers: the loads summed over the log. -1 with error() set when there are none. */
int report_loads(FILE *f, const struct loads *l);
/* A line a MoE layer: how even its experts' loads are. -1 as above. */
int report_experts(FILE *f, const struct loads *l);

/* 0, or -1 with error() set: there are none. */
int report_no_loads(const struct loads *l);
/* The most memory that a rank of each stage had, in the segments that count. */
void report_stages(const struct steplog *log, struct stage_memory *m);

/* What was skipped or replaced, on stderr (notice()). */
void report_notices(const struct report *r);

#endif
