/* SPDX-License-Identifier: MIT */
/* All figures that moekit measures or predicts: the one table of their names. Claims and checks, JSON, csv,
 * Prometheus, the `predict` record of plans and what a search ranks by use these; moe-figures(5) is this table
 * (t/0020-docs.t compares them, moe-stat --figures prints it).
 *
 * X(id, name, unit, origin, meaning): id, of enum figure_id and the member of struct summary; the name that
 * users see; whether it is measured, predicted or both; its definition, and how it is computed. A suffix tells
 * the unit as well: _bytes, _s seconds, _per_s a second, _share of the step time. */
#ifndef BASE_FIGURES_H
#define BASE_FIGURES_H

#include <stddef.h>

#include "base/figures_rows.h"

enum unit {
    UNIT_COUNT,
    UNIT_SECONDS,
    UNIT_RATE,
    UNIT_RATIO,
    UNIT_BYTES,
    UNIT_NUMBER,
    UNIT_FLOPS,
    UNIT_FLOP_RATE
};
enum figure_origin {
    MEASURED = 1,  /* by moe-stat, of a log */
    PREDICTED = 2, /* in a plan */
    BOTH = 3,
};

/* clang-format off */
enum figure_id {
#define X(id, ...) FIGURE_##id,
    FIGURE_ROWS
#undef X
    FIGURES
};
/* clang-format on */

struct figure {
    const char *name;
    enum unit unit;
    enum figure_origin origin;
    const char *meaning;
};
extern const struct figure figure_table[FIGURES];
extern const char *const unit_name[]; /* by unit: count, seconds, … */

/* One of the origins asked for. NULL: no such figure. */
const struct figure *figure_find(const char *name, size_t length, enum figure_origin origin);

#endif
