/* SPDX-License-Identifier: MIT */
/* Which ranks of a plan are lost: what --lost takes. */
#ifndef CHOOSE_LOST_H
#define CHOOSE_LOST_H

#include "plan/plan.h"

struct lost {
    bool *rank; /* [world] */
    int count;
};

/* what: ranks "5,17-19"; "host:NAME", all ranks of a host; or "@FILE", one of
 *   a step log: the ranks at fault since its last start record;
 *   what `moe-train --health --json` prints: {"unhealthy": [{"rank": R, "host": "NAME"}, …]}, where an entry
 *   with a rank is that rank, and one without all of the host.
 * hosts: a file with the name of the host of each of the plan's nodes, a line each (what follows the name is
 * passed over), or NULL: then a host can only be named by its node's number. -1 with error() (status 2): a rank
 * that is not there, an unknown host, nobody or everybody lost. */
int lost_parse(struct lost *l, const struct plan *p, const char *what, const char *hosts);
void lost_release(struct lost *l);

#endif
