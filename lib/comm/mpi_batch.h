/* SPDX-License-Identifier: MIT */
/* Inside the kind `mpi`: the messages of a collective. See struct comm_ops for post_all and wait_all. */
#ifndef COMM_MPI_BATCH_H
#define COMM_MPI_BATCH_H

#include "comm/ops.h"

struct comm_batch *mpi_post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                const struct comm_piece *recv, int recvs);
int mpi_wait_all(struct comm_batch *b);

#endif
