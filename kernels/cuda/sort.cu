/* SPDX-License-Identifier: MIT */
/* Choices sorted by expert, their capacity, and where arriving rows go. The sort is a stable counting sort
 * in three launches:
 *
 *   count     block b counts what its TILE choices have of each key: of_tile[b][keys]
 *   scan      one block: totals, the keys' first rows, and row_of_tile[b][k], the row of b's first choice of k
 *   scatter   block b: a choice's row is that, and one more for each earlier choice of its key in the tile */
#include "rows.h"

constexpr int TILE = SORT_TILE, SCAN_THREADS = 1024;

/* What is sorted: choice i has key topk[i], or slot_of[topk[i]], unless keep[i] is 0. */
struct keyed {
    int64_t choices;
    int keys;
    const int32_t *topk, *keep, *slot_of;
};

__device__ __forceinline__ int key_of(const struct keyed &p, int64_t i) /* -1: none */
{
    if (i >= p.choices || (p.keep && !p.keep[i]))
        return -1;
    return p.slot_of ? p.slot_of[p.topk[i]] : p.topk[i];
}

/* Shared memory: [keys] integers. */
__global__ void sort_count(struct keyed p, int32_t *of_tile)
{
    SHARED_DYNAMIC(int, count);
    for (int k = threadIdx.x; k < p.keys; k += TILE)
        count[k] = 0;
    __syncthreads();
    int key = key_of(p, static_cast<int64_t>(blockIdx.x) * TILE + threadIdx.x);
    if (key >= 0)
        atomicAdd(&count[key], 1);
    if (!fault("sort-barrier"))
        __syncthreads();
    for (int k = threadIdx.x; k < p.keys; k += TILE)
        of_tile[static_cast<int64_t>(blockIdx.x) * p.keys + k] = count[k];
}

/* The sum of v over the block's threads before this one; *all: over all of them. SCAN_THREADS threads call
 * it. */
template <class V> __device__ V block_before(V v, V *all)
{
    SHARED(V, of_warp, SCAN_THREADS / WARP_THREADS);
    int lane = threadIdx.x % WARP_THREADS, warp = threadIdx.x / WARP_THREADS;
    V sum = v; /* up to this lane */
    for (int distance = 1; distance < WARP_THREADS; distance *= 2) {
        V below = __shfl_up_sync(ALL_LANES, sum, distance);
        sum += lane >= distance ? below : 0;
    }
    __syncthreads(); /* of_warp may still be read */
    if (lane == WARP_THREADS - 1)
        of_warp[warp] = sum;
    __syncthreads();
    V before = 0;
    *all = 0;
    for (int i = 0; i < SCAN_THREADS / WARP_THREADS; i++) {
        before += i < warp ? of_warp[i] : 0;
        *all += of_warp[i];
    }
    return before + sum - v;
}

/* One block. row_of_tile: as of_tile. count may be NULL. */
__global__ void sort_scan(int64_t tiles, int keys, const int32_t *__restrict__ of_tile,
                          int32_t *__restrict__ row_of_tile, int32_t *count, int32_t *first)
{
    int32_t row = 0, all;
    for (int from = 0; from < keys; from += SCAN_THREADS) {
        int k = from + static_cast<int>(threadIdx.x);
        int32_t total = 0;
        for (int64_t b = 0; b < tiles && k < keys; b++)
            total += of_tile[b * keys + k];
        int32_t next = row + block_before(total, &all);
        row += all;
        if (k < keys) {
            first[k] = next;
            if (count)
                count[k] = total;
        }
        for (int64_t b = 0; b < tiles && k < keys; b++) {
            row_of_tile[b * keys + k] = next;
            next += of_tile[b * keys + k];
        }
    }
    if (threadIdx.x == 0)
        first[keys] = row;
}

/* position may be NULL. */
__global__ void sort_scatter(struct keyed p, const int32_t *row_of_tile, int32_t *position, int32_t *source)
{
    SHARED(int, key, TILE);
    int64_t i = static_cast<int64_t>(blockIdx.x) * TILE + threadIdx.x;
    int own = key_of(p, i), earlier = 0;
    key[threadIdx.x] = own;
    __syncthreads();
    for (int j = fault("sort-first"); j < static_cast<int>(threadIdx.x); j++)
        earlier += key[j] == own;
    int32_t row = own < 0 ? -1 : row_of_tile[static_cast<int64_t>(blockIdx.x) * p.keys + own] + earlier;
    if (i < p.choices && position)
        position[i] = row;
    if (row >= 0)
        source[row] = static_cast<int32_t>(i);
}

/* Integers of scratch that it takes: of_tile and row_of_tile. */
static int64_t sort_scratch(const struct keyed &p)
{
    return sort_integers(p.choices, p.keys);
}

static void sort(struct stream *s, const struct keyed &p, int32_t *scratch, int32_t *count, int32_t *first,
                 int32_t *position, int32_t *source)
{
    int64_t tiles = ceil_quotient(p.choices, TILE);
    int32_t *row_of_tile = scratch + tiles * p.keys;
    dim3 grid(static_cast<unsigned>(tiles));
    launch(sort_count, grid, dim3(TILE), static_cast<size_t>(p.keys) * sizeof(int), s->cuda, p, scratch);
    launch(sort_scan, dim3(1), dim3(SCAN_THREADS), 0, s->cuda, tiles, p.keys, scratch, row_of_tile, count,
           first);
    launch(sort_scatter, grid, dim3(TILE), 0, s->cuda, p, row_of_tile, position, source);
}

void cuda_sort_choices(struct stream *s, const struct sort_choices *p)
{
    struct keyed keyed = {p->tokens * p->top_k, static_cast<int>(p->experts), p->topk, p->keep, p->slot_of};
    int32_t *scratch = cuda_scratch_of<int32_t>(s, sort_scratch(keyed));
    if (scratch)
        sort(s, keyed, scratch, p->count, p->first, p->position, p->source);
}

/* ---- capacity ---- */

/* Whether choice i goes before choice j of the same expert. */
__device__ __forceinline__ bool goes_before(const struct capacity &p, int32_t i, int32_t j)
{
    if (p.by_prob) { /* a NaN is the largest: however many there are, no more are kept than may be */
        float a = p.weight[i], b = p.weight[j];
        bool equal = a == b || (isnan(a) && isnan(b));
        return equal ? i < j : isnan(a) || a > b;
    }
    int64_t K = p.top_k, seq = p.seq ? p.seq : p.tokens, a = i / K % seq, b = j / K % seq;
    return a < b || (a == b && i < j);
}

/* The choices of expert e are source[first[e]…first[e+1]), each a thread's of its blocks (grid: blocks a
 * expert, experts); a choice is kept when fewer than the capacity go before it. */
__global__ void capacity_keep(struct capacity p, const int32_t *first, const int32_t *source)
{
    int32_t begin = first[blockIdx.y], end = first[blockIdx.y + 1];
    for (int64_t at = begin + static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < end;
         at += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        int64_t rank = 0;
        for (int32_t other = begin; other < end && end - begin > p.capacity; other++)
            rank += goes_before(p, source[other], source[at]);
        p.keep[source[at]] = rank < p.capacity;
    }
}

/* One warp: Σ over experts of what is above the capacity. */
__global__ void capacity_dropped(struct capacity p, const int32_t *first)
{
    int64_t dropped = 0;
    for (int64_t e = threadIdx.x; e < p.experts; e += WARP_THREADS) {
        int64_t count = first[e + 1] - first[e];
        dropped += count > p.capacity ? count - p.capacity : 0;
    }
    dropped = warp_fold(dropped, plus());
    if (threadIdx.x == 0)
        *p.dropped = static_cast<float>(dropped);
}

void cuda_capacity(struct stream *s, const struct capacity *p)
{
    struct keyed keyed = {p->tokens * p->top_k, static_cast<int>(p->experts), p->topk, NULL, NULL};
    int32_t *scratch = cuda_scratch_of<int32_t>(s, sort_scratch(keyed) + keyed.choices + p->experts + 1);
    if (!scratch)
        return;
    int32_t *source = scratch + sort_scratch(keyed), *first = source + keyed.choices;
    sort(s, keyed, scratch, NULL, first, NULL, source);
    dim3 grid(8, /* threads for T·K/E choices of an expert, more or less */
              static_cast<unsigned>(p->experts));
    launch(capacity_keep, grid, dim3(BLOCK_THREADS), 0, s->cuda, *p, first, source);
    launch(capacity_dropped, dim3(1), dim3(WARP_THREADS), 0, s->cuda, *p, first);
}

/* ---- arrivals ---- */

/* Row `at` of the experts' order as one of those that come, [0, rows]. */
__device__ __forceinline__ int32_t within(const struct arrivals &p, int64_t at)
{
    return static_cast<int32_t>(at < p.first ? 0 : at - p.first > p.rows ? p.rows : at - p.first);
}

/* One block. First the order of the experts, segment s = i·sources + q; then the wire's, a source a thread. */
__global__ void arrivals_block(struct arrivals p)
{
    int64_t segments = p.experts * p.sources, at = 0, wire = 0, all;
    for (int64_t from = 0; from < segments; from += SCAN_THREADS) {
        int64_t s = from + threadIdx.x, i = s / p.sources, q = s % p.sources;
        int64_t rows = s < segments ? p.arrived[q * p.experts + i] : 0;
        int64_t first = at + block_before(rows, &all);
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
        int64_t begin = wire + block_before(rows, &all);
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
