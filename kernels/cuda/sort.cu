/* SPDX-License-Identifier: MIT */
/* Choices sorted by expert (sort.h), and where arriving rows go. */
#include "sort.h"

/* A warp's key. */
__global__ void __launch_bounds__(BLOCK_THREADS)
    sort_tiles(int64_t tiles, int keys, int32_t *of_tile, int32_t *total)
{
    int64_t key = line_row();
    int32_t before = 0;
    if (key >= keys)
        return;
    for (int64_t from = 0; from < tiles; from += WARP_THREADS) {
        int64_t b = from + threadIdx.x;
        int32_t own = b < tiles ? of_tile[key * tiles + b] : 0, sum = lanes_up_to(own);
        if (b < tiles)
            of_tile[key * tiles + b] = before + sum - own;
        before += __shfl_sync(ALL_LANES, sum, WARP_THREADS - 1);
    }
    if (threadIdx.x == 0)
        total[key] = before;
}

/* One block. count may be NULL. */
__global__ void __launch_bounds__(SCAN_THREADS)
    sort_first(int keys, const int32_t *total, int32_t *count, int32_t *first)
{
    int32_t row = 0, all;
    for (int from = 0; from < keys; from += SCAN_THREADS) {
        int k = from + static_cast<int>(threadIdx.x);
        int32_t own = k < keys ? total[k] : 0, begin = row + block_before<SCAN_THREADS>(own, &all);
        row += all;
        if (k < keys)
            first[k] = begin;
        if (k < keys && count)
            count[k] = own;
    }
    if (threadIdx.x == 0)
        first[keys] = row;
}

void sort_scan(struct stream *s, int64_t tiles, int keys, int32_t *of_tile, int32_t *count, int32_t *first)
{
    int32_t *total = of_tile + tiles * keys;
    launch(sort_tiles, dim3(static_cast<unsigned>(ceil_quotient(keys, WARPS))), dim3(WARP_THREADS, WARPS), 0,
           s->cuda, tiles, keys, of_tile, total);
    launch(sort_first, dim3(1), dim3(SCAN_THREADS), 0, s->cuda, keys, total, count, first);
}

void cuda_sort_choices(struct stream *s, const struct sort_choices *p)
{
    struct choice_keys keys = {p->tokens * p->top_k, static_cast<int>(p->experts), p->topk, p->keep,
                               p->slot_of};
    int32_t *scratch = cuda_scratch_of<int32_t>(s, sort_integers(keys.count, keys.keys));
    if (scratch)
        sort_by_key(s, keys, scratch, p->count, p->first, p->position, p->source);
}

/* ---- arrivals ---- */

/* Row `at` of the experts' order as one of those that come, [0, rows]. */
__device__ __forceinline__ int32_t within(const struct arrivals &p, int64_t at)
{
    return static_cast<int32_t>(at < p.first ? 0 : at - p.first > p.rows ? p.rows : at - p.first);
}

/* One block. First the order of the experts, segment s = i·sources + q; then the wire's, a source a thread. */
__global__ void __launch_bounds__(SCAN_THREADS) arrivals_block(struct arrivals p)
{
    int64_t segments = p.experts * p.sources, at = 0, wire = 0, all;
    for (int64_t from = 0; from < segments; from += SCAN_THREADS) {
        int64_t s = from + threadIdx.x, i = s / p.sources, q = s % p.sources;
        int64_t rows = s < segments ? p.arrived[q * p.experts + i] : 0;
        int64_t first = at + block_before<SCAN_THREADS>(rows, &all);
        at += all;
        if (s < segments && q == 0)
            p.row[i] = within(p, first);
        if (s < segments)
            p.to[s] = within(p, first);
    }
    if (threadIdx.x == 0)
        p.row[p.experts] = p.to[segments] = within(p, at);
    __syncthreads();
    for (int64_t from = 0; from < p.sources; from += SCAN_THREADS) {
        int64_t q = from + threadIdx.x, rows = 0;
        for (int64_t i = 0; i < p.experts && q < p.sources; i++)
            rows += p.to[i * p.sources + q + 1] - p.to[i * p.sources + q];
        int64_t begin = wire + block_before<SCAN_THREADS>(rows, &all);
        wire += all;
        begin = p.block ? q * p.block : begin;
        for (int64_t i = 0; i < p.experts && q < p.sources; i++) {
            p.from[i * p.sources + q] = static_cast<int32_t>(begin);
            begin += p.to[i * p.sources + q + 1] - p.to[i * p.sources + q];
        }
    }
}

void cuda_arrivals(struct stream *s, const struct arrivals *p)
{
    launch(arrivals_block, dim3(1), dim3(SCAN_THREADS), 0, s->cuda, *p);
}
