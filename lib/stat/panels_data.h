/* SPDX-License-Identifier: MIT */
/* Of stat/panels.h: the columns of the table $steps. */
#ifndef STAT_PANELS_DATA_H
#define STAT_PANELS_DATA_H

#include "stat/panels.h"

enum { POINTS = 1000 };

enum series { SERIES_LOSS, SERIES_RATE, SERIES_IMBALANCE, SERIES_GRADIENT, SERIES };

/* Column 1 is the step. A series has three: mean, least, most. Phases follow, each with those before it added. */
static inline int series_column(enum series s)
{
    return 2 + 3 * (int)s;
}
static inline int phase_column(int phase)
{
    return 2 + 3 * SERIES + phase;
}

static inline double phase_share(const struct summary *s, int phase)
{
    return s->value[FIGURE_forward_share + phase];
}

bool series_known(const struct picture *p, enum series which);
bool phases_known(const struct picture *p);

#endif
