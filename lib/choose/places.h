/* SPDX-License-Identifier: MIT */
/* Where a plan's ranks are: a plan numbers its nodes, hosts have names, and after a loss neither the nodes nor
 * their ranks are all in use. A file of places has a line a rank, in their order: the host, and the number
 * there, of its processors' share or its device, which a rank keeps. */
#ifndef CHOOSE_PLACES_H
#define CHOOSE_PLACES_H

#include <stdio.h>

#include "base/process.h"
#include "plan/plan.h"

struct rank_places {
    struct place {
        char host[HOST_NAME];
        int64_t local;
    } * of; /* [ranks of the plan]; NULL: not known */
};

/* A line for each of `ranks` ranks; -1 with error(), also where two are at one place. */
int places_read(struct rank_places *s, const char *path, int ranks);
/* From a file with the host of each node, a line each, of which the first word counts. */
int places_of_nodes(struct rank_places *s, const char *path, const struct plan *p);
/* Node N on host[N], ranks of a node numbered from 0. -1 with error(): there are fewer hosts than nodes. */
int places_on(struct rank_places *s, const struct plan *p, const char *const *host, int hosts);
void places_release(struct rank_places *s);

/* Of a new plan's ranks, each of which was that one; was NULL: they are the same. */
void places_write(const struct rank_places *s, const int *was, int ranks, FILE *f);

#endif
