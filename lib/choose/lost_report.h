/* SPDX-License-Identifier: MIT */
/* What a report of `moe-train --health --json` makes of a plan's ranks. */
#ifndef CHOOSE_LOST_REPORT_H
#define CHOOSE_LOST_REPORT_H

#include "base/json.h"
#include "choose/lost.h"

/* Marks who is lost, as lost_parse() has it, and gives places to ranks that have none. */
int lost_by_report(struct lost *l, const struct plan *p, struct rank_places *s, const struct json_doc *report);

/* One more lost. */
static inline void lost_mark(struct lost *l, int rank)
{
    l->count += !l->rank[rank];
    l->rank[rank] = true;
}

#endif
