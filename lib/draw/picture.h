/* SPDX-License-Identifier: MIT */
/* What is drawn of a run, and its steps as a table for gnuplot. */
#ifndef DRAW_PICTURE_H
#define DRAW_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "stat/loads.h"
#include "stat/steplog.h"
#include "stat/summary.h"

struct picture {
    struct steplog *log; /* NULL: there is none */
    const struct loads *loads;
    const struct summary *s;
    char *const *timelines; /* paths */
    int timeline_count;
    int64_t first, last; /* the timelines' steps */
};

/* The run in a few words, for a title. */
void picture_title(const struct picture *p, char title[static 256]);

/* Writes the tables $steps and $evals. However long the log is, $steps has at most POINTS rows: a row stands
 * for as many steps, with their mean, least and most. */
enum { POINTS = 1000 };
void picture_data(FILE *script, const struct picture *p);

/* Columns of $steps: 1 is the step. A series has three: mean, least, most. Phases follow, each with those
 * before it added. */
enum series { SERIES_LOSS, SERIES_RATE, SERIES_IMBALANCE, SERIES_GRADIENT, SERIES };
static inline int series_column(enum series s)
{
    return 2 + 3 * (int)s;
}
static inline int phase_column(int phase)
{
    return 2 + 3 * SERIES + phase;
}
/* Whether the log tells anything of it. */
bool series_known(const struct picture *p, enum series which);
bool phases_known(const struct picture *p);

static inline double phase_share(const struct summary *s, int phase)
{
    return s->value[FIGURE_forward_share + phase];
}

#endif
