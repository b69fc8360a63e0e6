/* SPDX-License-Identifier: MIT */
/* Inside the kind `mpi`: messages from one rank to another. See struct comm_ops for post, done and wait. */
#ifndef COMM_MPI_POINT_H
#define COMM_MPI_POINT_H

#include <mpi.h>

#include "comm/ops.h"

struct comm_request *mpi_post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes);
bool mpi_done(struct comm_request *base);
int mpi_wait(struct comm_request *base, double *idle_s);
/* Gives each receive that waits its message, if that is there. Whoever waits for anything calls it. */
void mpi_serve(struct comm *c);
/* 0, or -1 with error() when the message from `peer` is not of the expected size. */
int mpi_check_size(const MPI_Status *status, size_t expect, const char *what, const struct group *g, int peer);

#endif
