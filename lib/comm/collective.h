/* SPDX-License-Identifier: MIT */
/* Collective operations on device memory. */
#ifndef COMM_COLLECTIVE_H
#define COMM_COLLECTIVE_H

#include "comm/comm.h"

/* whole[i·bytes …] = part of peer i. part may be its own place in whole. */
int all_gather(struct group *g, const void *part, void *whole, size_t bytes);
/* part = Σ over peers, in peer order, of their whole[me·count …]. part may be this rank's own place in whole;
 * whole is otherwise unchanged. BF16 is summed in f32 and rounded once. */
int reduce_scatter(struct group *g, enum type type, const void *whole, void *part, int64_t count);
/* x = Σ over peers, bitwise the same on all. */
int all_reduce(struct group *g, float *x, int64_t count);
/* x = Σ over peers, bitwise the same on all, along the tree of comm/host.h: for what a job says of itself, few
 * numbers from a group of any size, in few messages. */
int tree_sum_f32(struct group *g, float *x, int64_t count);
int tree_sum_f64(struct group *g, double *x, int64_t count);
/* Everyone's sends and receives, at once: the all-to-all. */
int exchange(struct group *g, const struct comm_piece *send, int sends, const struct comm_piece *recv,
             int recvs);

#endif
