/* SPDX-License-Identifier: MIT */
#include "base/figures.h"

#include <string.h>

const struct figure figure_table[FIGURES] = {
#define X(id, name, unit, origin, meaning) {name, unit, origin, meaning},
    FIGURE_ROWS
#undef X
};

const char *const unit_name[] = {[UNIT_COUNT] = "count",     [UNIT_SECONDS] = "seconds",
                                 [UNIT_RATE] = "per second", [UNIT_RATIO] = "ratio",
                                 [UNIT_BYTES] = "bytes",     [UNIT_NUMBER] = "number",
                                 [UNIT_FLOPS] = "FLOP",      [UNIT_FLOP_RATE] = "FLOP per second"};

const struct figure *figure_find(const char *name, size_t length, enum figure_origin origin)
{
    for (int i = 0; i < FIGURES; i++)
        if ((figure_table[i].origin & origin) && strlen(figure_table[i].name) == length &&
            strncmp(figure_table[i].name, name, length) == 0)
            return &figure_table[i];
    return NULL;
}
