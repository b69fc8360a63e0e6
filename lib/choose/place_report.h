/* SPDX-License-Identifier: MIT */
/* What placing a plan's experts gains and costs, as a table. */
#ifndef CHOOSE_PLACE_REPORT_H
#define CHOOSE_PLACE_REPORT_H

#include "choose/place.h"

/* Every placement beside the plan as it is; a star marks the chosen one. Placed by the balancer with the
 * slots of `f`, by the others with a slot an expert. */
int place_report(const struct plan *p, const struct load_table *t, const struct fleet *f, enum placement chosen,
                 FILE *out);
/* The logical expert in each slot, a line a layer, without a plan. */
int place_map(const struct load_table *t, const struct fleet *f, FILE *out);

#endif
