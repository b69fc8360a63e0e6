/* SPDX-License-Identifier: MIT */
/* What each expert keeps of its choices, the `capacity` that go first: a radix select (Alabi et al., 2012,
 * "Fast k-selection algorithms for graphics processing units"). Who goes first is a number of 32 bits, the
 * rank, and of equal ones the choice with the lower index. A block has an expert: it finds the rank of the
 * last one kept by its four digits, the highest first, counting the choices that share the digits found so
 * far. Counts are integers, and choices lie in order of their index, so that the result does not depend on
 * timing. */
#include <math.h>

#include "sort.h"

constexpr int RANK_BITS = 32, SELECT_THREADS = 512;

/* Goes before a choice with a lower rank. Weights by size, where 0 has one sign and a NaN is the largest:
 * however many there are, no more are kept than may be. Positions by how early they are. */
__device__ uint32_t rank_of(const struct capacity &p, int32_t choice)
{
    if (!p.by_prob) {
        int64_t seq = p.seq ? p.seq : p.tokens;
        return ~static_cast<uint32_t>(choice / p.top_k % seq);
    }
    constexpr uint32_t SIGN = 1u << (RANK_BITS - 1);
    float weight = p.weight[choice];
    if (isnan(weight))
        return ~0u;
    uint32_t bits = weight == 0 ? 0 : __float_as_uint(weight);
    return bits & SIGN ? ~bits : bits | SIGN;
}

/* What is known of the rank of the last choice that is kept. */
struct last_kept {
    uint32_t rank; /* its digits, as far as they are found */
    int32_t left;  /* how many of those that share them are kept */
};

/* The digit at `shift` joins it. All threads of the block call it. */
__device__ struct last_kept find_digit(const struct capacity &p, const int32_t *source, int32_t count,
                                       struct last_kept last, int shift)
{
    SHARED(int, of_digit, DIGITS);
    SHARED(struct last_kept, found, 1);
    int digit = DIGITS - 1 - static_cast<int>(threadIdx.x); /* thread 0 has the largest */
    __syncthreads();                                        /* what was found may still be read */
    if (digit >= 0)
        of_digit[digit] = 0;
    __syncthreads();
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count; i += SELECT_THREADS) {
        uint64_t rank = rank_of(p, source[i]);
        if (rank >> (shift + DIGIT_BITS) == last.rank)
            atomicAdd(&of_digit[rank >> shift & (DIGITS - 1)], 1);
    }
    if (!fault("capacity-barrier"))
        __syncthreads();
    int32_t all, own = digit >= 0 ? of_digit[digit] : 0, before = block_before<SELECT_THREADS>(own, &all);
    if (before < last.left && last.left <= before + own)
        found[0] = {last.rank << DIGIT_BITS | static_cast<uint32_t>(digit), last.left - before};
    __syncthreads();
    return found[0];
}

/* The choices of expert blockIdx.x are source[first[e]…first[e+1]). */
__global__ void __launch_bounds__(SELECT_THREADS)
    capacity_keep(struct capacity p, const int32_t *first, const int32_t *source)
{
    int32_t begin = first[blockIdx.x], count = first[blockIdx.x + 1] - begin, all;
    bool some = count > p.capacity && p.capacity > 0;
    struct last_kept last = {0, static_cast<int32_t>(some ? p.capacity : 0)};
    source += begin;
    for (int shift = RANK_BITS - DIGIT_BITS; some && shift >= 0; shift -= DIGIT_BITS)
        last = find_digit(p, source, count, last, shift);
    int32_t equals = 0; /* of the choices before, how many have the last one's rank */
    for (int32_t from = 0; from < count; from += SELECT_THREADS) {
        int32_t i = from + static_cast<int32_t>(threadIdx.x);
        uint32_t rank = some && i < count ? rank_of(p, source[i]) : 0;
        bool equal = some && i < count && rank == last.rank;
        int32_t before = equals + block_before<SELECT_THREADS, int32_t>(equal, &all);
        equals += all;
        if (i < count)
            p.keep[source[i]] = some
                                    ? rank > last.rank || (equal && before < last.left + fault("capacity-ties"))
                                    : p.capacity > 0;
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
    struct choice_keys keys = {p->tokens * p->top_k, static_cast<int>(p->experts), p->topk, NULL, NULL};
    int64_t sorting = sort_integers(keys.count, keys.keys);
    int32_t *scratch = cuda_scratch_of<int32_t>(s, sorting + keys.count + p->experts + 1);
    if (!scratch)
        return;
    int32_t *source = scratch + sorting, *first = source + keys.count;
    sort_by_key(s, keys, scratch, NULL, first, NULL, source);
    launch(capacity_keep, dim3(static_cast<unsigned>(p->experts)), dim3(SELECT_THREADS), 0, s->cuda, *p, first,
           source);
    launch(capacity_dropped, dim3(1), dim3(WARP_THREADS), 0, s->cuda, *p, first);
}
