/* SPDX-License-Identifier: MIT */
/* Claims on figures: NAME OP VALUE, OP one of < <= > >= = ~ (= to the digits written, ~ within 10%), VALUE may
 * end in %. */
#ifndef STAT_CHECK_H
#define STAT_CHECK_H

#include <stdbool.h>

#include "stat/summary.h"

struct check {
    const struct figure *figure;
    char op[3];
    double value, digit; /* digit: one in the last place written */
};

/* -1 with error() set: no such figure (the text lists them all), or not of that form. */
int check_parse(struct check *c, const char *text);

/* False as well when the figure is unknown. */
bool check_holds(const struct check *c, const struct summary *s);

#endif
