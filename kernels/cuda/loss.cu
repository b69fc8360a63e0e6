/* SPDX-License-Identifier: MIT */
/* Cross-entropy over the vocabulary. */
#include <math.h>

#include "rows.h"

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
