/* SPDX-License-Identifier: MIT */
/* The state in the memory of a backend that computes on the host: open to all threads for as long as a load
 * takes, which is work of the host in the state's stream (kernels/backend.h). A device has its own memory, and
 * all goes there by uploads. */
#ifndef CKPT_LOAD_MEMORY_H
#define CKPT_LOAD_MEMORY_H

#include "backend.h"
#include "ckpt/state.h"

struct load_memory {
    struct host_work work; /* first */
    struct host_range ranges[FLATS * (1 + STATES)];
    const struct rank_state *s;
    bool queued, open, done;
};

/* Nothing else is queued in the stream until it is closed. */
void load_memory_open(struct load_memory *m, const struct rank_state *s);
/* Where the host finds the state's byte at `device`; NULL: it must go there by upload(). */
void *load_memory_at(const struct load_memory *m, const void *device);
/* -1: an earlier operation has failed. */
int load_memory_close(struct load_memory *m);

#endif
