/* SPDX-License-Identifier: MIT */
/* Operations on device memory. Each is queued in a stream: it begins when all that was queued there before is
 * done, and what is queued there later sees what it has done; an event that is recorded behind it says when.
 * Lists are the caller's again on return. They return 0, or -1 with error() set if nothing was queued; what
 * goes wrong later is reported by the backend's next sync() or download().
 *
 * A stream may stand still until the other side has come to its part; the host does not. Every member of a
 * group queues the same operations on it in the same order, in whatever streams; on the kind mpi two operations
 * of a group that are in different streams do not run at once either. Nor do two of one rank that sum, unless
 * one is in the stream of comm_set_scratch_beside(): they share comm_set_scratch()'s memory. */
#ifndef COMM_COLLECTIVE_H
#define COMM_COLLECTIVE_H

#include "comm/comm.h"

/* whole[i·bytes …] = part of peer i. part may be its own place in whole. */
int all_gather(struct group *g, struct stream *s, const void *part, void *whole, size_t bytes);
/* part = Σ over peers, in peer order, of their whole[me·count …]. part may be this rank's own place in whole;
 * whole is otherwise unchanged. BF16 is summed in f32 and rounded once. */
int reduce_scatter(struct group *g, struct stream *s, enum type type, const void *whole, void *part,
                   int64_t count);
/* x = Σ over peers, bitwise the same on all. */
int all_reduce(struct group *g, struct stream *s, float *x, int64_t count);
/* x = Σ over peers, bitwise the same on all, along the tree of comm/host.h: for what a job says of itself, few
 * numbers from a group of any size, in few messages. */
int tree_sum_f32(struct group *g, struct stream *s, float *x, int64_t count);
int tree_sum_f64(struct group *g, struct stream *s, double *x, int64_t count);
/* Everyone's sends and receives, at once: the all-to-all. On communication strict and nccl the pieces for one
 * peer must touch, and so must those from one. */
int exchange(struct group *g, struct stream *s, const struct comm_piece *send, int sends,
             const struct comm_piece *recv, int recvs);
/* From one to another: a peer's sends to this one match its receives from that peer in order, whatever else
 * there is between them, and bytes must be equal. times: NULL, or what is filled before later work in s, and
 * must live till then. */
struct comm_times {
    double arrived_s; /* now_s() when the message was there to be moved; 0: not known */
    double done_s;    /* and when it had been; 0: not known */
};
int comm_send(struct group *g, struct stream *s, int peer, const void *p, size_t bytes);
int comm_recv(struct group *g, struct stream *s, int peer, void *p, size_t bytes, struct comm_times *times);

#endif
