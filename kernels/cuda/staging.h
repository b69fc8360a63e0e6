/* SPDX-License-Identifier: MIT */
/* Copies between the host's memory and the device's by way of page-locked memory, which the device reads and
 * writes by itself: so an upload need not wait for its turn in the stream, and its source is the caller's
 * again at once.
 *
 * The memory is slots, used in turn. A copy takes the next bytes of the slot in use, or of the next slot; a
 * slot is used again when the copies that were queued from it are done, which may block. */
#ifndef KERNELS_CUDA_STAGING_H
#define KERNELS_CUDA_STAGING_H

#include <cuda_runtime_api.h>
#include <stddef.h>

struct staging {
    static constexpr int SLOTS = 8;
    static constexpr size_t SLOT_BYTES = 1 << 20;
    char *memory;            /* [SLOTS][SLOT_BYTES]; NULL until it is used */
    cudaEvent_t done[SLOTS]; /* happen when the slots' copies are done */
    int slot;                /* the one in use, */
    size_t used;             /* of which so much is taken */
};

/* Ordered in the stream. `host` may be reused on return. What fails is kept (failure.h). */
void staging_upload(struct staging *g, cudaStream_t s, void *dst, const void *host, size_t bytes);
/* Blocks until the bytes are in `host`. */
void staging_download(struct staging *g, cudaStream_t s, void *host, const void *src, size_t bytes);
/* No copy may be under way. */
void staging_release(struct staging *g);

#endif
