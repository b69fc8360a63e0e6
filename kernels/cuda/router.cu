/* SPDX-License-Identifier: MIT */
/* The router: scores and the choice of experts, its gradient, its statistics. A warp has a token.
 * Derivations are in ref/route.c, the choice is choice.c's. */
#include <math.h>

#include "rows.h"

/* A sum of scores is never 0 in a division. */
constexpr float TINY = 1e-20f;

__device__ __forceinline__ float warp_sum(float v)
{
    return warp_fold(v, plus());
}

/* ---- scores and choice ---- */

/* A candidate: the largest value, the lowest index of equals; index -1: none. NaNs are not candidates. */
struct candidate {
    float value;
    int index;
};

__device__ __forceinline__ bool better(struct candidate a, struct candidate b)
{
    return a.index >= 0 && (b.index < 0 || a.value > b.value ||
                            (a.value == b.value && (a.index < b.index) != fault("router-tie")));
}

/* The best of value[n] in shared memory, in every lane. */
__device__ struct candidate warp_best(const float *value, int n)
{
    struct candidate best = {-INFINITY, -1};
    for (int i = threadIdx.x; i < n; i += WARP_THREADS) {
        struct candidate c = {value[i], isnan(value[i]) ? -1 : i};
        best = better(c, best) ? c : best;
    }
    for (int distance = WARP_THREADS / 2; distance > 0; distance /= 2) {
        struct candidate other = {__shfl_xor_sync(ALL_LANES, best.value, distance),
                                  __shfl_xor_sync(ALL_LANES, best.index, distance)};
        best = better(other, best) ? other : best;
    }
    return best;
}

/* The sum of a group's two best; of the only one in a group of one. */
__device__ float group_worth(const float *value, int n)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (value[i] > first) {
            second = first;
            first = value[i];
        } else if (value[i] > second) {
            second = value[i];
        }
    }
    return n > 1 ? first + second : first;
}

/* Takes all but the best groups out of the game (their values become NaN): a group that stays is one whose
 * worth has become NaN. worth: [groups] in shared memory, the warp's own. */
__device__ void limit_groups(const struct router &p, float *value, float *worth)
{
    int size = static_cast<int>(p.experts) / p.groups;
    for (int g = threadIdx.x; g < p.groups; g += WARP_THREADS)
        worth[g] = group_worth(value + g * size, size);
    __syncwarp();
    for (int i = 0; i < p.top_groups; i++) {
        struct candidate best = warp_best(worth, p.groups);
        __syncwarp();
        if (threadIdx.x == 0 && best.index >= 0)
            worth[best.index] = NAN;
        __syncwarp();
    }
    for (int e = threadIdx.x; e < size * p.groups; e += WARP_THREADS)
        if (!isnan(worth[e / size]))
            value[e] = NAN;
    __syncwarp();
}

/* Lane 0 writes. value[E] is the warp's own; what is chosen becomes NaN in it. */
__device__ void choose_top(const struct router &p, int64_t t, float *value, const float *score)
{
    int32_t *topk = p.topk + t * p.top_k;
    float *weight = p.weight + t * p.top_k, sum = 0, last = 0;
    for (int k = 0; k < p.top_k; k++) {
        struct candidate best = warp_best(value, static_cast<int>(p.experts));
        int e = best.index < 0 ? k : best.index; /* fewer than K take part: still a valid index */
        last = value[e];
        sum += score[e];
        __syncwarp();
        if (threadIdx.x == 0) {
            topk[k] = e;
            value[e] = NAN;
        }
        if (!fault("router-warp"))
            __syncwarp();
    }
    struct candidate next = warp_best(value, static_cast<int>(p.experts));
    if (threadIdx.x > 0)
        return;
    for (int k = 0; k < p.top_k; k++)
        weight[k] = (p.renormalise ? score[topk[k]] / (sum + TINY) : score[topk[k]]) * p.scale;
    if (p.margin)
        p.margin[t] = next.index < 0 ? INFINITY : last - next.value;
}

/* Shared memory: scores, values and worths of each warp, 3·E floats a warp. */
__global__ void router_warp(struct router p)
{
    SHARED_DYNAMIC(float, work);
    int E = static_cast<int>(p.experts);
    float *score = work + threadIdx.y * 3 * E, *value = score + E, *worth = value + E;
    int64_t t = line_row();
    if (t >= p.tokens)
        return;
    const float *z = p.logits + t * E;
    float max = -INFINITY, sum = 0;
    for (int e = threadIdx.x; e < E; e += WARP_THREADS)
        max = greater()(max, z[e]);
    max = warp_fold(max, greater());
    float shift = max == -INFINITY ? 0 : max;
    for (int e = threadIdx.x; e < E; e += WARP_THREADS)
        sum += expf(z[e] - shift);
    float lse = shift + logf(warp_sum(sum));
    for (int e = threadIdx.x; e < E; e += WARP_THREADS) {
        score[e] = p.sigmoid ? 1 / (1 + expf(-z[e])) : expf(z[e] - lse);
        float v = score[e] + (p.bias ? p.bias[e] : 0);
        value[e] = isnan(v) ? INFINITY : v; /* chosen first, so that a NaN is not lost */
        p.scores[t * E + e] = score[e];
    }
    if (threadIdx.x == 0)
        p.lse[t] = lse;
    __syncwarp();
    if (p.groups > 1)
        limit_groups(p, value, worth);
    choose_top(p, t, value, score);
}

/* A warp a token; with many experts fewer warps, so that their shared memory stays below what a block may
 * have. */
void cuda_router(struct stream *s, const struct router *p)
{
    size_t bytes = static_cast<size_t>(3 * p->experts) * sizeof(float), warps = WARPS;
    while (warps > 1 && warps * bytes > SHARED_UNASKED)
        warps /= 2;
    launch(router_warp, dim3(static_cast<unsigned>(ceil_quotient(p->tokens, static_cast<int64_t>(warps)))),
           dim3(WARP_THREADS, static_cast<unsigned>(warps)), warps * bytes, s->cuda, *p);
}

/* ---- gradient ---- */

/* What ds[e], the gradient of a score, is made of: the same for all experts of a token but for those chosen. */
struct score_gradient {
    float chosen, mean;    /* Σ of the chosen scores; Σ d_weight·score/chosen */
    float total, aux_mean; /* Σ of all scores, Σ aux·score/total; 1 and 0 but for sigmoid routers with aux */
};

__device__ struct score_gradient gradient_of(const struct router_backward &b, int64_t t)
{
    const struct router &p = b.fwd;
    const float *score = p.scores + t * p.experts, *d_weight = b.d_weight + t * p.top_k;
    const int32_t *topk = p.topk + t * p.top_k;
    struct score_gradient g = {TINY, 0, 1, 0};
    for (int64_t k = 0; k < p.top_k; k++)
        g.chosen += score[topk[k]];
    for (int64_t k = 0; k < p.top_k; k++)
        g.mean += d_weight[k] * score[topk[k]] / g.chosen;
    if (!p.sigmoid || !b.aux)
        return g;
    float total = 0, aux = 0;
    for (int64_t e = threadIdx.x; e < p.experts; e += WARP_THREADS) {
        total += score[e];
        aux += b.aux[e] * score[e];
    }
    g.total = warp_sum(total) + TINY;
    g.aux_mean = warp_sum(aux) / g.total;
    return g;
}

__device__ float ds_of(const struct router_backward &b, int64_t t, int64_t e, const struct score_gradient &g)
{
    const struct router &p = b.fwd;
    float ds = b.aux ? (b.aux[e] - g.aux_mean) / g.total : 0;
    for (int64_t k = 0; k < p.top_k; k++) {
        float d_weight = b.d_weight[t * p.top_k + k];
        if (p.topk[t * p.top_k + k] == e)
            ds += p.scale * (p.renormalise ? (d_weight - g.mean) / g.chosen : d_weight);
    }
    return ds;
}

/* dlogits may be scores: all have read before anyone writes. */
__global__ void router_backward_warp(struct router_backward b)
{
    const struct router &p = b.fwd;
    int64_t t = line_row();
    if (t >= p.tokens)
        return;
    const float *score = p.scores + t * p.experts, *z = p.logits + t * p.experts;
    struct score_gradient g = gradient_of(b, t);
    float mean = 0, z_loss = b.z != 0 ? b.z * p.lse[t] : 0;
    for (int64_t e = threadIdx.x; e < p.experts && !p.sigmoid; e += WARP_THREADS)
        mean += score[e] * ds_of(b, t, e, g);
    mean = warp_sum(mean);
    __syncwarp();
    for (int64_t e = threadIdx.x; e < p.experts; e += WARP_THREADS) {
        float ds = ds_of(b, t, e, g), s = score[e], d = s * (ds - mean + z_loss);
        if (p.sigmoid)
            d = s * (1 - s) * ds + (z_loss != 0 ? z_loss * expf(z[e] - p.lse[t]) : 0);
        b.dlogits[t * p.experts + e] = d;
    }
}

void cuda_router_backward(struct stream *s, const struct router_backward *b)
{
    launch(router_backward_warp, dim3(static_cast<unsigned>(ceil_quotient(b->fwd.tokens, WARPS))),
           dim3(WARP_THREADS, WARPS), 0, s->cuda, *b);
}

/* ---- statistics ---- */

/* Tokens are summed by so many blocks at most, each a piece of them. */
constexpr int STATS_PIECES = 128;

/* Block b of B has the tokens [T·b/B, T·(b+1)/B), eight at a time: each warp finds what its
 * token's scores are divided by, and then each thread adds them up for its experts. Shared memory: sums and
 * counts, 2·E numbers. To part[b][2E+1], as prob, count, z. */
__global__ void router_stats_piece(struct router_stats p, float *part)
{
    SHARED_DYNAMIC(float, prob);
    SHARED(float, by, WARPS);
    SHARED(float, z_of, WARPS);
    int *count = reinterpret_cast<int *>(prob + p.experts);
    int64_t first = p.tokens * blockIdx.x / gridDim.x, last = p.tokens * (blockIdx.x + 1) / gridDim.x,
            E = p.experts;
    int thread = threadIdx.y * WARP_THREADS + threadIdx.x;
    float z = 0;
    for (int64_t e = thread; e < E; e += BLOCK_THREADS)
        prob[e] = 0, count[e] = 0;
    __syncthreads();
    for (int64_t i = first * p.top_k + thread; i < last * p.top_k; i += BLOCK_THREADS)
        atomicAdd(&count[p.topk[i]], 1);
    for (int64_t t = first; t < last; t += WARPS) {
        int64_t own = t + threadIdx.y, here = last - t < WARPS ? last - t : WARPS;
        float total = 0;
        for (int64_t e = threadIdx.x; p.sigmoid && own < last && e < E; e += WARP_THREADS)
            total += p.scores[own * E + e];
        total = warp_sum(total);
        if (threadIdx.x == 0 && own < last) {
            by[threadIdx.y] = p.sigmoid ? 1 / (total + TINY) : 1;
            z += p.lse[own] * p.lse[own];
        }
        __syncthreads();
        for (int64_t e = thread; e < E; e += BLOCK_THREADS)
            for (int64_t i = 0; i < here; i++)
                prob[e] += p.scores[(t + i) * E + e] * by[i];
        if (!fault("stats-barrier"))
            __syncthreads();
    }
    if (threadIdx.x == 0)
        z_of[threadIdx.y] = z;
    __syncthreads();
    float *to = part + blockIdx.x * (2 * E + 1);
    for (int64_t e = thread; e < E; e += BLOCK_THREADS) {
        to[e] = prob[e];
        to[E + e] = static_cast<float>(count[e]);
    }
    for (int i = 1; i < WARPS && thread == 0; i++)
        z += z_of[i];
    if (thread == 0)
        to[2 * E] = z;
}

/* Column c of the parts, in order: a thread each. */
__global__ void router_stats_end(struct router_stats p, const float *part, int pieces)
{
    int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, E = p.experts;
    if (c > 2 * E)
        return;
    float sum = 0;
    for (int64_t i = 0; i < pieces; i++)
        sum += part[i * (2 * E + 1) + c];
    *(c < E ? p.prob + c : c < 2 * E ? p.count + c - E : p.z) = sum;
}

void cuda_router_stats(struct stream *s, const struct router_stats *p)
{
    int64_t columns = 2 * p->experts + 1;
    float *part = cuda_scratch_of<float>(s, STATS_PIECES * columns);
    if (!part)
        return;
    int64_t wanted = ceil_quotient(p->tokens, WARPS);
    int pieces = static_cast<int>(wanted < STATS_PIECES ? wanted : STATS_PIECES);
    launch(router_stats_piece, dim3(static_cast<unsigned>(pieces)), dim3(WARP_THREADS, WARPS),
           static_cast<size_t>(2 * p->experts) * sizeof(float), s->cuda, *p, part);
    launch(router_stats_end, dim3(static_cast<unsigned>(ceil_quotient(columns, BLOCK_THREADS))),
           dim3(BLOCK_THREADS), 0, s->cuda, *p, part, pieces);
}
