/* SPDX-License-Identifier: MIT */
/* Device memory that NCCL's communicators take, beside the arena: where ranks are GPUs, one for all and one for
 * each kind of group with several ranks (comm/nccl.c).
 *
 * Each connection of a channel has a buffer where it receives: NCCL_BUFFSIZE, 4 MiB, beside those of the
 * protocols LL and LL128, 0.5 and 4.7 MiB (NCCL's user guide, environment variables; its src/init.cc), in pages
 * of 2 MiB 10 MiB, and where it sends one page. How many connections there are:
 *
 *   sends and receives    each peer that is talked to, over 32 channels with NVLink (twice its links, to a
 *                         power of two: src/graph/paths.cc), over NET_CHANNELS where the group is on several
 *                         nodes
 *   between nodes         one pool for all peers and each direction, 32 channels of 16 pieces of 128 KiB
 *   all-gather            a ring over 16 channels
 *
 * An all-to-all on 8 H100 has 7·32·12 MiB = 2.8 GB so; 3.3 GB were measured (NVIDIA/nccl, issue 1685, which
 * has the sizes and the channels). NCCL connects ranks when they first talk: what is counted is all that a
 * step has. Which peers: of a stage its neighbours, in the tree over all ranks three, else all of the group. It
 * is an estimate, where the arena is exact. */
#ifndef COST_COMMUNICATORS_H
#define COST_COMMUNICATORS_H

#include "cost/links.h"

/* How far a rank's groups reach. */
struct reaches {
    struct reach tp, cp, ep, etp, replicas[2]; /* replicas: of the dense part (over cp too) and of experts */
    bool across;                               /* stages that follow each other are on different nodes */
};
/* From the axes and the machine alone. 0 on processors. */
int64_t communicator_bytes(const struct plan *p, const struct reaches *r);
/* Of a plan with groups: those of rank 0. */
int64_t plan_communicator_bytes(const struct plan *p);
/* What must fit: the arena and, where they are counted, the communicators. */
double needed_bytes(const struct predict *x);
/* Whether it does, by the plan's predictions, or nobody knows how much memory there is. */
bool plan_fits(const struct plan *p);
/* What a rank of the machine has for its arena, beside communicators. */
int64_t arena_room(const struct plan *p);

#endif
