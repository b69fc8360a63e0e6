/* SPDX-License-Identifier: MIT */
/* The device memory that operations of the cuda backend in one stream take besides their arguments: partial
 * sums, the lists of a sort, the workspace of cuBLASLt. A plan counts it (lib/cost/arena.c), the engine gives
 * it to the stream that computes (backend.h), and kernels/cuda lives within it. */
#ifndef KERNELS_SCRATCH_H
#define KERNELS_SCRATCH_H

#include <stdint.h>

/* How it is aligned; what a product may take, and partial sums have; choices that a block sorts. */
enum { SCRATCH_ALIGN = 256, SCRATCH_BYTES = 32 << 20, SORT_TILE = 512 };

/* Integers that a sort of choices by expert takes at most: a table of tiles and experts, and the experts'
 * totals. */
static inline int64_t sort_integers(int64_t choices, int64_t experts)
{
    return 2 * ((choices + SORT_TILE - 1) / SORT_TILE) * experts;
}

/* Bytes for a stream whose operations sort at most so many choices: capacity() also keeps their order. */
static inline int64_t scratch_bytes(int64_t choices, int64_t experts)
{
    int64_t sort = (sort_integers(choices, experts) + choices + experts + 1) * (int64_t)sizeof(int32_t);
    int64_t bytes = SCRATCH_BYTES;
    if (bytes < sort)
        bytes = sort;
    return (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

#endif
