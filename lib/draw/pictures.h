/* SPDX-License-Identifier: MIT */
/* What moe-stat makes beside its report: plots, pages and traces, as they are asked for on its command line. */
#ifndef DRAW_PICTURES_H
#define DRAW_PICTURES_H

#include <stdbool.h>
#include <stdint.h>

#include "draw/panels.h"
#include "plan/plan.h"
#include "stat/report.h"

struct pictures {
    const char *plot, *html, *trace; /* paths, or NULL */
    bool panels[PANELS];             /* of --plot */
    int64_t first, last;             /* steps of timelines */
};

/* Arguments: LIST of panels; steps A or A-B. 0, or -1 with error() set. */
int pictures_panels(const char *arg, void *pictures);
int pictures_steps(const char *arg, void *pictures);

/* Whether what is to be written can be, before logs are read: 0, or -1 with error() set. */
int pictures_check(const struct pictures *w);
/* Puts logs before timelines; returns how many are logs. */
int pictures_sort(char **paths, int count);
/* The plot or page that is asked for: of a run, and the timelines behind its logs; `report` is NULL where there
 * is no log. 0, or -1 with error() set. */
int pictures_write(const struct pictures *w, const struct report *report, const struct plan *plan,
                   const char *plan_path, char **paths, int logs, int count);
/* The trace, and on stderr what it has. */
int pictures_trace(const struct pictures *w, char **paths, int count);

#endif
