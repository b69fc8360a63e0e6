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
 *   tell of. But a host that is well and has no rank of the plan takes the place of one with ranks that are
 *   lost, which is said. Nobody may be lost. Without places its ranks must be the plan's, as many.
 * places: of the plan's ranks; without any (of NULL) a report gives them its hosts, in order; NULL: none are
 * known, and a host can only be named by its node's number.
 * -1 with error() (status 2): a rank that is not there, an unknown host, nobody or everybody lost. */
int lost_parse(struct lost *l, const struct plan *p, const char *what, struct rank_places *places);
void lost_release(struct lost *l);

#endif
