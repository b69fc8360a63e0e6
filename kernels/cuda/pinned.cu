/* SPDX-License-Identifier: MIT */
#include "pinned.h"

#include "cuda.h"

struct pinned {
    struct pinned *next;
    void *memory;
    size_t bytes;
    bool lent;
    cudaEvent_t done; /* the copies of the last who had it */
};

static struct pinned *blocks;

/* Sizes are powers of two, so that few blocks serve many. */
static struct pinned *make(size_t bytes)
{
    size_t room = 1 << 16;
    while (room < bytes)
        room *= 2;
    struct pinned *m = static_cast<struct pinned *>(xcalloc(1, sizeof *m));
    cudaError_t e = cudaHostAlloc(&m->memory, room, cudaHostAllocDefault);
    if (e == cudaSuccess)
        e = cudaEventCreateWithFlags(&m->done, cudaEventDisableTiming);
    cuda_keep(e, "allocating page-locked memory");
    if (e != cudaSuccess) {
        free(m);
        return NULL;
    }
    m->bytes = room;
    m->next = blocks;
    return blocks = m;
}

struct pinned *pinned_take(size_t bytes)
{
    struct pinned *best = NULL;
    for (struct pinned *m = blocks; m; m = m->next)
        if (!m->lent && m->bytes >= bytes && (!best || m->bytes < best->bytes) &&
            cudaEventQuery(m->done) == cudaSuccess)
            best = m;
    best = best ? best : make(bytes);
    if (best)
        best->lent = true;
    return best;
}

void *pinned_bytes(const struct pinned *m)
{
    return m->memory;
}

void pinned_return(struct pinned *m, cudaStream_t s)
{
    if (!m)
        return;
    cuda_keep(cudaEventRecord(m->done, s), "recording an event");
    m->lent = false;
}
