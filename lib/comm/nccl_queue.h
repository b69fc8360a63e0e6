/* SPDX-License-Identifier: MIT */
/* Inside the kind `nccl`: operations in streams, and waits for NCCL. */
#ifndef COMM_NCCL_QUEUE_H
#define COMM_NCCL_QUEUE_H

#include "comm/mpi_alive.h"
#include "comm/nccl_library.h"

/* See struct comm_ops. */
int nccl_swap(struct group *g, struct stream *s, const char *what, const struct comm_piece *send, int sends,
              const struct comm_piece *recv, int recvs);
int nccl_all_gather(struct group *g, struct stream *s, const void *part, void *whole, size_t bytes);

/* NCCL has said `code` to a call on `comm`, of which p tells: until it no longer says ncclInProgress. 0, or -1
 * with error() set. */
int nccl_settle(struct patience *p, ncclComm_t comm, ncclResult_t code);

#endif
