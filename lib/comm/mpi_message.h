/* SPDX-License-Identifier: MIT */
/* Inside the kind `mpi`: what its parts share. Messages, and failures that name the peers. */
#ifndef COMM_MPI_MESSAGE_H
#define COMM_MPI_MESSAGE_H

#include <mpi.h>

#include "comm/ops.h"

/* The kind's state, in comm->state. */
struct mpi {
    MPI_Comm comm, device;         /* the host's messages, and those of device operations */
    bool started;                  /* MPI, by us */
    struct mpi_request *waiting;   /* receives without a message, in order of posting */
    double spin_s, yield_s, nap_s; /* of polls, see struct patience */
    struct signs *signs;           /* of life: mpi_alive.h */
};

/* error() with MPI's text for its code. */
int mpi_failed(int code, const char *what);

/* Pieces as MPI wants them: one block of memory, or a type made of several. */
struct message {
    void *p;
    int count;
    MPI_Datatype type;
};

/* Pieces in list order as one message: 0 or MPI's code. */
int mpi_describe(const struct comm_piece *list, int count, struct message *m);
/* Messages under way keep what they need of it. */
void mpi_forget(struct message *m);

#endif
