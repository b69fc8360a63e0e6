/* SPDX-License-Identifier: MIT */
/* What a rank computes with: how many threads, which backend on which device. */
#ifndef COMM_COMPUTE_H
#define COMM_COMPUTE_H

#include "comm/comm.h"

/* Threads for this rank: `wanted`, else $OMP_NUM_THREADS, else one for each of its processors. */
int comm_threads(const struct comm *c, int64_t wanted);
/* The backend that is called `name`, or, for "auto", like the device of the machine: NULL with error()
 * (status 3) if this build has none. The ranks of a host take its devices by local rank. */
const struct backend *comm_backend(const struct comm *c, const char *name, const char *device, int threads);

#endif
