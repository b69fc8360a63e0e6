/* SPDX-License-Identifier: MIT */
/* Which ranks of a plan are lost: what --lost takes. */
#ifndef CHOOSE_LOST_H
#define CHOOSE_LOST_H

#include "choose/places.h"

struct lost {
    bool *rank; /* [world] */
    int count;
};

/* what: ranks "5,17-19"; "host:NAME", all ranks of a host; or "@FILE", one of
 *   a step log: the ranks at fault since its last start record;
 *   what `moe-train --health --json` prints. It is of a job of its own, on what there still is: with places,
 *   the plan's rank in the place of one that is sick there is lost, and so are all on a host that it does not
 *   tell of. Without them its ranks must be the plan's, as many.
 * places: of the plan's ranks, or NULL: then a host can only be named by its node's number.
 * -1 with error(): a rank that is not there, an unknown host, everybody lost (status 2), nobody (2, or 1 where
 * a report of health says so). */
int lost_parse(struct lost *l, const struct plan *p, const char *what, const struct places *places);
void lost_release(struct lost *l);

#endif
