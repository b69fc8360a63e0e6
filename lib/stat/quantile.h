/* SPDX-License-Identifier: MIT */
/* Percentiles of as many values as there are, exactly, in memory that does not grow with them: up to
 * QUANTILE_SORTED are kept and sorted; of more, the values wanted are found bits by bits, in passes that count
 * how many begin with the same. */
#ifndef STAT_QUANTILE_H
#define STAT_QUANTILE_H

#include <stdbool.h>
#include <stddef.h>

enum { QUANTILE_SORTED = 1 << 20, QUANTILES = 8 };

/* The values, in any order, but the same on each pass: value i of `of`, false where it has none. */
typedef bool quantile_value(void *of, size_t i, double *value);

/* of[0 … count) in `p` parts, each in [0,1], into `to`: interpolated linearly between the two neighbours (R's
 * and numpy's default). At most QUANTILES of them. Returns of how many values they are; NaN when that is 0. */
size_t quantiles(void *of, size_t count, quantile_value *value, const double *p, int n, double *to);
/* The same with another bound on what is kept, for tests. */
size_t quantiles_within(size_t sorted, void *of, size_t count, quantile_value *value, const double *p, int n,
                        double *to);

#endif
