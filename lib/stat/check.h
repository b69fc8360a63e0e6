/* SPDX-License-Identifier: MIT */
/* Claims on measured figures: NAME and a bound (base/bound.h). */
#ifndef STAT_CHECK_H
#define STAT_CHECK_H

#include <stdbool.h>

#include "base/bound.h"
#include "stat/summary.h"

struct check {
    const struct figure *figure;
    struct bound bound;
};

/* -1 with error() set: no such figure (the text lists them all), or not of that form. */
int check_parse(struct check *c, const char *text);

/* False as well when the figure is unknown. */
bool check_holds(const struct check *c, const struct summary *s);

#endif
