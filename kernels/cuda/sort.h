/* SPDX-License-Identifier: MIT */
/* A stable counting sort by small keys, in four launches; `tiles` of SORT_TILE choices each:
 *
 *   sort_count     block b: of_tile[k][b], what tile b has of key k
 *   sort_tiles     a warp a key k: of_tile[k][b] becomes what the tiles before b have of it, and total[k] what
 *                  all have
 *   sort_first     one block: first[k], the row of the first choice of key k
 *   sort_scatter   block b: a choice's row is first[k] + of_tile[k][b], and one more for each earlier choice of
 *                  its key in the tile
 *
 * What is sorted is said by a struct KEYS: `count` and `keys`, how many choices and keys there are; key(i) of
 * choice i, -1: it is left out; number(i), by which it is called in source[row]. Wider keys are sorted by their
 * digits, the lowest first, each pass going on from the order that the one before has left. */
#ifndef KERNELS_CUDA_SORT_H
#define KERNELS_CUDA_SORT_H

#include "rows.h"

constexpr int SCAN_THREADS = 1024;
constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS; /* of what is sorted, or looked for, by digits */

/* Of the lanes of a warp, all of which call it: the sum of v over those up to this one. */
template <class V> __device__ V lanes_up_to(V v)
{
    for (int distance = 1; distance < WARP_THREADS; distance *= 2) {
        V below = __shfl_up_sync(ALL_LANES, v, distance);
        v += static_cast<int>(threadIdx.x) % WARP_THREADS >= distance ? below : 0;
    }
    return v;
}

/* Of a block of THREADS threads in x, all of which call it: the sum of v over those before this one; *all: over
 * all of them. */
template <int THREADS, class V> __device__ V block_before(V v, V *all)
{
    SHARED(V, of_warp, THREADS / WARP_THREADS);
    int lane = threadIdx.x % WARP_THREADS, warp = threadIdx.x / WARP_THREADS;
    V sum = lanes_up_to(v);
    __syncthreads(); /* of_warp may still be read */
    if (lane == WARP_THREADS - 1)
        of_warp[warp] = sum;
    if (!fault("scan-barrier"))
        __syncthreads();
    V before = 0;
    *all = 0;
    for (int i = 0; i < THREADS / WARP_THREADS; i++) {
        before += i < warp ? of_warp[i] : 0;
        *all += of_warp[i];
    }
    return before + sum - v;
}

/* Shared memory: [keys] integers. */
template <class KEYS> __global__ void __launch_bounds__(SORT_TILE) sort_count(KEYS p, int32_t *of_tile)
{
    SHARED_DYNAMIC(int, count);
    for (int k = threadIdx.x; k < p.keys; k += SORT_TILE)
        count[k] = 0;
    __syncthreads();
    int64_t i = static_cast<int64_t>(blockIdx.x) * SORT_TILE + threadIdx.x;
    int key = i < p.count ? p.key(i) : -1;
    if (key >= 0)
        atomicAdd(&count[key], 1);
    if (!fault("sort-barrier"))
        __syncthreads();
    for (int k = threadIdx.x; k < p.keys; k += SORT_TILE)
        of_tile[static_cast<int64_t>(k) * gridDim.x + blockIdx.x] = count[k];
}

/* position may be NULL. */
template <class KEYS>
__global__ void __launch_bounds__(SORT_TILE)
    sort_scatter(KEYS p, const int32_t *of_tile, const int32_t *first, int32_t *position, int32_t *source)
{
    SHARED(int, key, SORT_TILE);
    int64_t i = static_cast<int64_t>(blockIdx.x) * SORT_TILE + threadIdx.x;
    int own = i < p.count ? p.key(i) : -1;
    int32_t row = own < 0 ? -1 : first[own] + of_tile[static_cast<int64_t>(own) * gridDim.x + blockIdx.x];
    key[threadIdx.x] = own;
    __syncthreads();
    for (int j = fault("sort-first"); j < static_cast<int>(threadIdx.x) && own >= 0; j++)
        row += key[j] == own;
    if (i < p.count && position)
        position[i] = row;
    if (own >= 0)
        source[row] = p.number(i);
}

/* The two launches in between (sort.cu). count may be NULL. */
void sort_scan(struct stream *s, int64_t tiles, int keys, int32_t *of_tile, int32_t *count, int32_t *first);

/* The sort. scratch: sort_integers(count, keys) of them. first [keys+1]: the last is how many rows there are.
 * count [keys] and position [p.count], a choice's row or -1, may be NULL. source [rows]. */
template <class KEYS>
void sort_by_key(struct stream *s, const KEYS &p, int32_t *scratch, int32_t *count, int32_t *first,
                 int32_t *position, int32_t *source)
{
    int64_t tiles = ceil_quotient(p.count, SORT_TILE);
    if (p.count > INT32_MAX) {
        failure_set("cuda: %lld choices are too many to sort", static_cast<long long>(p.count));
        return;
    }
    dim3 grid(static_cast<unsigned>(tiles));
    launch(sort_count<KEYS>, grid, dim3(SORT_TILE), static_cast<size_t>(p.keys) * sizeof(int), s->cuda, p,
           scratch);
    sort_scan(s, tiles, p.keys, scratch, count, first);
    launch(sort_scatter<KEYS>, grid, dim3(SORT_TILE), 0, s->cuda, p, scratch, first, position, source);
}

/* Choices by expert: choice i has key topk[i], or slot_of[topk[i]], unless keep[i] is 0. */
struct choice_keys {
    int64_t count;
    int keys;
    const int32_t *topk, *keep, *slot_of;

    __device__ int key(int64_t i) const
    {
        if (keep && !keep[i])
            return -1;
        return slot_of ? slot_of[topk[i]] : topk[i];
    }
    __device__ int32_t number(int64_t i) const
    {
        return static_cast<int32_t>(i);
    }
};

#endif
