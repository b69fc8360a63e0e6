/* SPDX-License-Identifier: MIT */
/* Where a plan's ranks are: a plan numbers its nodes, hosts have names, and after a loss neither the nodes nor
 * their ranks are all in use. A file of places has a line a rank, in their order: the host, and the number
 * there, of its processors' share or its device, which a rank keeps. */
#ifndef CHOOSE_PLACES_H
#define CHOOSE_PLACES_H

#include <stdio.h>

#include "plan/plan.h"

struct places {
    struct place {
        const char *host; /* in `text` */
        int64_t local;
    } * of;
    int count;  /* ranks */
    char *text; /* the file */
};

/* A line for each of `ranks` ranks; -1 with error(). */
int places_read(struct places *s, const char *path, int ranks);
/* From a file with the host of each node, a line each, of which the first word counts: ranks of a node are
 * numbered from 0. Nodes that the file is too short for have host "", which nobody has. */
int places_of_nodes(struct places *s, const char *path, const struct plan *p);
void places_release(struct places *s);

/* Of a new plan's ranks, each of which was that one. */
void places_write(const struct places *s, const int *was, int ranks, FILE *f);

#endif
