/* SPDX-License-Identifier: MIT */
/* What is claimed of a number: OP VALUE[UNIT], OP one of < <= > >= = ~. `=` is to the digits written, `~`
 * within a tenth. Units are those of the figure's kind: % of ratios and plain numbers; s ms us min h; B kB MB
 * GB TB (thousands), KiB MiB GiB TiB; K M G T of what is counted. A ratio above 1 has its %, lest 'bubble < 5'
 * be taken for 500%. */
#ifndef BASE_BOUND_H
#define BASE_BOUND_H

#include <stdbool.h>

#include "base/figures.h"

struct bound {
    char op[3];
    double value, digit; /* digit: one in the last place written */
};

/* From the beginning of text. Returns what is behind it, blanks skipped; NULL with error() (status 2), *at
 * then being where it stopped. */
const char *bound_parse(struct bound *b, const char *text, enum unit unit, const char **at);
/* False for NaN. */
bool bound_holds(const struct bound *b, double v);
/* The values that hold: from low to high, infinities where it has no end. */
void bound_range(const struct bound *b, double *low, double *high);

#endif
