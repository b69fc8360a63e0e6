/* SPDX-License-Identifier: MIT */
/* Inside the kind `mpi`: messages between the members of a group. See struct comm_ops. */
#ifndef COMM_MPI_BATCH_H
#define COMM_MPI_BATCH_H

#include "comm/ops.h"

struct comm_batch *mpi_post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                const struct comm_piece *recv, int recvs, bool device);
int mpi_test_all(struct comm_batch *b);
int mpi_await_all(struct comm_batch *b);
void mpi_free_all(struct comm_batch *b);

#endif
