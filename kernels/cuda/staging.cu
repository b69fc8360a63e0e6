/* SPDX-License-Identifier: MIT */
#include "staging.h"

#include <string.h>

#include "cuda.h"
#include "library.h"

static bool ready(struct staging *g)
{
    if (g->memory)
        return true;
    void *memory = NULL;
    cudaError_t e = cudaHostAlloc(&memory, staging::SLOTS * staging::SLOT_BYTES, cudaHostAllocDefault);
    for (int i = 0; i < staging::SLOTS && e == cudaSuccess; i++)
        e = cudaEventCreateWithFlags(&g->done[i], cudaEventDisableTiming);
    cuda_keep(e, "allocating page-locked memory");
    if (e == cudaSuccess)
        g->memory = static_cast<char *>(memory);
    return e == cudaSuccess;
}

static char *bytes_of(const struct staging *g, int slot)
{
    return g->memory + static_cast<size_t>(slot) * staging::SLOT_BYTES;
}

/* The next slot, when its copies are done. */
static char *next_slot(struct staging *g)
{
    g->slot = (g->slot + 1) % staging::SLOTS;
    g->used = 0;
    cudaEvent_t done = g->done[g->slot];
    cuda_keep(
        library_await([done] { return cudaEventQuery(done); }, [done] { return cudaEventSynchronize(done); }),
        "waiting for the device");
    return bytes_of(g, g->slot);
}

void staging_upload(struct staging *g, cudaStream_t s, void *dst, const void *host, size_t bytes)
{
    constexpr size_t ALIGN = 64;
    if (bytes == 0 || !ready(g))
        return;
    char *to = static_cast<char *>(dst);
    const char *from = static_cast<const char *>(host);
    while (bytes > 0) {
        char *slot = g->used == staging::SLOT_BYTES ? next_slot(g) : bytes_of(g, g->slot);
        size_t room = staging::SLOT_BYTES - g->used, n = bytes < room ? bytes : room;
        memcpy(slot + g->used, from, n);
        cuda_keep(cudaMemcpyAsync(to, slot + g->used, n, cudaMemcpyHostToDevice, s), "copying to the device");
        cuda_keep(cudaEventRecord(g->done[g->slot], s), "recording an event");
        g->used += (n + ALIGN - 1) / ALIGN * ALIGN;
        to += n;
        from += n;
        bytes -= n;
    }
}

/* Bytes of the piece at `at` of so many. */
static size_t piece(size_t bytes, size_t at)
{
    return bytes - at < staging::SLOT_BYTES ? bytes - at : staging::SLOT_BYTES;
}

/* A slot a piece: as many as there are slots are under way at once, and fetched in order as they come. */
void staging_download(struct staging *g, cudaStream_t s, void *host, const void *src, size_t bytes)
{
    constexpr size_t PIECE = staging::SLOT_BYTES;
    if (bytes == 0 || !ready(g))
        return;
    for (size_t first = 0; first < bytes; first += staging::SLOTS * PIECE) {
        int slot[staging::SLOTS];
        size_t at = first;
        for (int i = 0; i < staging::SLOTS && at < bytes; i++, at += PIECE) {
            char *to = next_slot(g);
            slot[i] = g->slot;
            cuda_keep(cudaMemcpyAsync(to, static_cast<const char *>(src) + at, piece(bytes, at),
                                      cudaMemcpyDeviceToHost, s),
                      "copying from the device");
            cuda_keep(cudaEventRecord(g->done[g->slot], s), "recording an event");
        }
        at = first;
        for (int i = 0; i < staging::SLOTS && at < bytes; i++, at += PIECE) {
            cuda_keep(cudaEventSynchronize(g->done[slot[i]]), "waiting for the device");
            memcpy(static_cast<char *>(host) + at, bytes_of(g, slot[i]), piece(bytes, at));
        }
    }
    g->used = PIECE; /* the slot is full, for uploads */
}

void staging_release(struct staging *g)
{
    if (!g->memory)
        return;
    for (int i = 0; i < staging::SLOTS; i++)
        cudaEventDestroy(g->done[i]);
    cudaFreeHost(g->memory);
    *g = {};
}
