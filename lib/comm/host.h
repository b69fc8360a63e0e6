/* SPDX-License-Identifier: MIT */
/* Collective operations on host memory: for what a job says of itself. No peer sends or receives more than some
 * log(n) messages. After -1 what was to be filled is not defined. */
#ifndef COMM_HOST_H
#define COMM_HOST_H

#include "comm/comm.h"

int host_broadcast(struct group *g, int root, void *p, size_t bytes);
/* The largest of everyone's values: agreement on a status or a flag. */
int host_max(struct group *g, int64_t *value);
/* all[i·bytes …] = mine of peer i, at peer 0 only; the others' `all` is not touched and may be NULL. */
int host_gather(struct group *g, const void *mine, size_t bytes, void *all);

/* What two runs of peers say becomes, in `into`, what both say. Those of `from` come right behind those of
 * `into`. The calls that are made depend on nothing but the size of the group: the result is always the same,
 * to the last bit. */
typedef void host_combine(void *into, const void *from, size_t bytes);
/* p = everyone's p combined: at peer 0, and spoilt elsewhere, or on all. */
int host_reduce(struct group *g, void *p, size_t bytes, host_combine *combine);
int host_all_reduce(struct group *g, void *p, size_t bytes, host_combine *combine);

#endif
