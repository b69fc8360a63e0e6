/* SPDX-License-Identifier: MIT */
/* Old steps of a root go, by hand: what --keep of a run does as it saves (steps.h), for a root that no run is
 * writing to. */
#ifndef CKPT_PRUNE_H
#define CKPT_PRUNE_H

#include <stdbool.h>
#include <stdint.h>

struct pruned {
    char **removed; /* [count] paths, the newest first */
    int count, kept;
    int64_t bytes; /* of the files that went */
};

/* Of each line of descent under root the newest `keep` (1 or more) steps that are whole stay, which is
 * verified, and what is newer than the last of them; the line's older ones go. So a line that has no more than
 * that many whole steps loses none. A step of two lines stays when one of them keeps it; what is set aside, or
 * does not say what line it is of, stays. dry_run: choose only. -1: status 2 where there are no steps, 3 where
 * a run has the root. */
int prune_root(struct pruned *p, const char *root, int64_t keep, bool dry_run);
void pruned_release(struct pruned *p);

#endif
