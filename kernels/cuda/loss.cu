/* SPDX-License-Identifier: MIT */
/* The two ends of a model: embedding, and cross-entropy over the vocabulary. */
#include <math.h>

#include "rows.h"

template <class T, int N> __global__ void embedding_tile(struct embedding p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.tokens || at.column >= p.width)
        return;
    int64_t row = p.token[at.row] - p.first;
    float v[N] = {};
    if (row >= 0 && row < p.count)
        load<N>(v, static_cast<const T *>(p.table) + row * p.width + at.column);
    store<N>(static_cast<T *>(p.y) + at.row * p.width + at.column, v);
}

void cuda_embedding(struct stream *s, const struct embedding *p)
{
    RUN(run_tiles, embedding_tile, s, p, packed(p->type, {p->table, p->y}, {p->width}), p->tokens, p->width);
}

/* Whether this token stands before t too; all threads of the block call it. */
__device__ bool stands_before(const int32_t *token, int64_t t)
{
    SHARED(int, found, 1);
    if (threadIdx.x == 0)
        found[0] = 0;
    __syncthreads();
    int any = 0;
    for (int64_t i = threadIdx.x; i < t; i += blockDim.x)
        any |= token[i] == token[t];
    if (any)
        atomicMax(found, 1);
    __syncthreads();
    return found[0];
}

/* The block of the first place t of a token adds up the gradients of all its places, in order, in registers.
 * Grid: t, tiles of BLOCK_THREADS · N columns, fewer than 65536. The places are looked for 256 at a time: warp
 * i's matches are the bits of match[i]. T² comparisons of cached integers are little beside the products of T
 * tokens. */
template <class T, int N> __global__ void embedding_backward_block(struct embedding_backward p)
{
    constexpr int WARPS = BLOCK_THREADS / WARP_THREADS;
    SHARED(unsigned, match, WARPS);
    int64_t t = blockIdx.x, row = p.token[t] - p.first;
    if (row < 0 || row >= p.count || stands_before(p.token, t))
        return;
    int64_t c = (static_cast<int64_t>(blockIdx.y) * BLOCK_THREADS + threadIdx.x) * N;
    float sum[N] = {}, v[N];
    if (c < p.width)
        load<N>(sum, p.d_table + row * p.width + c);
    for (int64_t first = t; first < p.tokens; first += BLOCK_THREADS) {
        int64_t i = first + threadIdx.x;
        unsigned warp_match = __ballot_sync(ALL_LANES, i < p.tokens && p.token[i] == p.token[t]);
        if (!fault("embedding-barrier"))
            __syncthreads(); /* the last ones have been read */
        if (threadIdx.x % WARP_THREADS == 0)
            match[threadIdx.x / WARP_THREADS] = warp_match;
        __syncthreads();
        for (int w = 0; w < WARPS && c < p.width; w++)
            for (unsigned left = match[w]; left; left &= left - 1) {
                int64_t at = first + w * WARP_THREADS + __ffs(static_cast<int>(left)) - 1;
                load<N>(v, static_cast<const T *>(p.dy) + at * p.width + c);
                for (int j = 0; j < N; j++)
                    sum[j] += v[j];
            }
    }
    if (c < p.width)
        store<N>(p.d_table + row * p.width + c, sum);
}

template <int N>
static void run_embedding(struct stream *s, void (*kernel)(struct embedding_backward), int64_t tokens,
                          int64_t width, const struct embedding_backward *p)
{
    dim3 grid(static_cast<unsigned>(tokens), static_cast<unsigned>(ceil_quotient(width, BLOCK_THREADS * N)));
    launch(kernel, grid, dim3(BLOCK_THREADS), 0, s->cuda, *p);
}

void cuda_embedding_backward(struct stream *s, const struct embedding_backward *p)
{
    RUN(run_embedding, embedding_backward_block, s, p, packed(p->type, {p->dy, p->d_table}, {p->width}),
        p->tokens, p->width);
}

/* The largest of some logits, -inf of none, and the sum of exponentials relative to it; relative to -inf
 * stands for relative to 0, so that no infinities are subtracted. */
struct exponentials {
    float max, sum;
};
/* Over the line, in every thread of it; as line_fold(). */
__device__ struct exponentials line_join(struct exponentials v)
{
    float max = line_max(v.max), shift = max == -INFINITY ? 0 : max;
    return {max, line_sum(v.sum == 0 ? 0 : v.sum * expf((v.max == -INFINITY ? 0 : v.max) - shift))};
}

template <int N> __global__ void softmax_stats_line(struct softmax_stats p)
{
    int64_t t = line_row();
    const float *z = p.logits + t * p.width;
    struct exponentials own = {-INFINITY, 0};
    float v[N];
    for (int64_t c = threadIdx.x * N; t < p.rows && c < p.width; c += blockDim.x * N) {
        load<N>(v, z + c);
        float max = own.max, sum = 0;
        for (int j = 0; j < N; j++)
            max = greater()(max, v[j]);
        float shift = max == -INFINITY ? 0 : max;
        for (int j = 0; j < N; j++)
            sum += expf(v[j] - shift);
        own.sum = (own.sum == 0 ? 0 : own.sum * expf(own.max - shift)) + sum;
        own.max = max;
    }
    struct exponentials all = line_join(own);
    if (t >= p.rows || threadIdx.x > 0)
        return;
    int64_t target = p.target[t] - p.first;
    p.stats[3 * t] = all.max;
    p.stats[3 * t + 1] = all.sum;
    p.stats[3 * t + 2] = target >= 0 && target < p.width ? z[target] : -INFINITY;
}

void cuda_softmax_stats(struct stream *s, const struct softmax_stats *p)
{
    if (packed(F32, {p->logits}, {p->width}))
        run_lines<PACK<float>>(s, softmax_stats_line<PACK<float>>, p->rows, p->width, p);
    else
        run_lines<1>(s, softmax_stats_line<1>, p->rows, p->width, p);
}

/* The largest logit of row t, and the sum of exponentials relative to it, over all parts (ref/loss.c). */
__device__ struct exponentials merged(const struct cross_entropy &p, int64_t t, float *z_target)
{
    struct exponentials all = {-INFINITY, 0};
    *z_target = -INFINITY;
    for (int i = 0; i < p.parts; i++)
        all.max = greater()(all.max, p.stats[(i * p.rows + t) * 3]);
    all.max = all.max == -INFINITY ? 0 : all.max;
    for (int i = 0; i < p.parts; i++) {
        const float *part = p.stats + (i * p.rows + t) * 3;
        all.sum += part[1] * (part[0] == -INFINITY ? 1 : expf(part[0] - all.max));
        if (part[2] != -INFINITY)
            *z_target = part[2];
    }
    return all;
}

template <class T, int N> __global__ void cross_entropy_line(struct cross_entropy p)
{
    int64_t t = line_row();
    if (t >= p.rows)
        return;
    float z_target;
    struct exponentials all = merged(p, t, &z_target);
    if (threadIdx.x == 0)
        p.loss[t] = static_cast<float>(all.max + log(static_cast<double>(all.sum)) - z_target);
    int64_t target = p.target[t] - p.first;
    float v[N], by = p.scale / all.sum;
    for (int64_t c = threadIdx.x * N; p.dlogits && c < p.width; c += blockDim.x * N) {
        load<N>(v, p.logits + t * p.width + c);
        for (int j = 0; j < N; j++)
            v[j] = expf(v[j] - all.max) * by - (c + j == target ? p.scale : 0);
        store<N>(static_cast<T *>(p.dlogits) + t * p.width + c, v);
    }
}

void cuda_cross_entropy(struct stream *s, const struct cross_entropy *p)
{
    RUN(run_lines, cross_entropy_line, s, p, packed(p->type, {p->logits, p->dlogits}, {p->width}), p->rows,
        p->width);
}
