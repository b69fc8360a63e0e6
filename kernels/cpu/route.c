/* SPDX-License-Identifier: MIT */
/* capacity, sort_choices and arrivals stay the reference's: they are linear (n log n by probability) and move
 * little. */
#include "../choice.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "lanes.h"

static const float TINY = 1e-20f; /* as in the reference */

HOT static void softmax_scores(float *score, const float *z, float lse, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        score[i] = exp_fast(z[i] - lse);
}

HOT static void sigmoid_scores(float *score, const float *z, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        score[i] = sigmoid_fast(z[i]);
}

HOT static float sum_of(const float *x, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

static void cpu_router(struct stream *s, const struct router *p)
{
#pragma omp parallel if (p->tokens * p->experts > WORTH / 4)
    {
        struct choice_scratch *own = choice_scratch_new(p->experts);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < p->tokens; t++) {
            const float *z = p->logits + t * p->experts;
            float max = max_of(z, p->experts), shift = max == -INFINITY ? 0 : max;
            p->lse[t] = shift + logf(sum_exp(z, shift, p->experts));
            if (p->sigmoid)
                sigmoid_scores(p->scores + t * p->experts, z, p->experts);
            else
                softmax_scores(p->scores + t * p->experts, z, p->lse[t], p->experts);
            choose(p, t, own);
        }
        choice_scratch_free(own);
    }
}

/* ds[e]: the gradient of token t's scores, as derived in ref/route.c. */
static void score_gradient(const struct router_backward *b, int64_t t, float *ds)
{
    const struct router *p = &b->fwd;
    const float *score = p->scores + t * p->experts, *d_weight = b->d_weight + t * p->top_k;
    const int32_t *topk = p->topk + t * p->top_k;
    float chosen = TINY, mean = 0;
    for (int64_t k = 0; k < p->top_k; k++)
        chosen += score[topk[k]];
    for (int64_t k = 0; k < p->top_k; k++)
        mean += d_weight[k] * score[topk[k]] / chosen;
    float total = p->sigmoid && b->aux ? sum_of(score, p->experts) + TINY : 1;
    float aux_mean = p->sigmoid && b->aux ? dot_of(b->aux, score, p->experts) / total : 0;
    for (int64_t e = 0; e < p->experts; e++)
        ds[e] = b->aux ? (b->aux[e] - aux_mean) / total : 0;
    for (int64_t k = 0; k < p->top_k; k++)
        ds[topk[k]] += p->scale * (p->renormalise ? (d_weight[k] - mean) / chosen : d_weight[k]);
}

HOT static void softmax_gradient(float *d, const float *score, const float *ds, float mean, float z, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = score[i] * (ds[i] - mean + z);
}

HOT static void sigmoid_gradient(float *d, const float *score, const float *ds, const float *logit, float lse,
                                 float z, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = score[i] * (1 - score[i]) * ds[i] + z * exp_fast(logit[i] - lse);
}

static void cpu_router_backward(struct stream *s, const struct router_backward *b)
{
    const struct router *p = &b->fwd;
#pragma omp parallel for schedule(static) if (p->tokens * p->experts > WORTH / 4)
    for (int64_t t = 0; t < p->tokens; t++) {
        const float *score = p->scores + t * p->experts;
        float *ds = scratch(SCRATCH_A, p->experts), *d = b->dlogits + t * p->experts;
        float z = b->z != 0 ? b->z * p->lse[t] : 0;
        score_gradient(b, t, ds);
        if (p->sigmoid)
            sigmoid_gradient(d, score, ds, p->logits + t * p->experts, p->lse[t], z, p->experts);
        else
            softmax_gradient(d, score, ds, dot_of(score, ds, p->experts), z, p->experts);
    }
}

HOT static void add_scaled(double *y, const float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i] * by;
}

static void stats_block(const struct router_stats *p, int64_t first, int64_t last, double *prob, double *count,
                        double *z)
{
    for (int64_t t = first; t < last; t++) {
        const float *score = p->scores + t * p->experts;
        add_scaled(prob, score, p->sigmoid ? 1 / (sum_of(score, p->experts) + TINY) : 1, p->experts);
        for (int64_t k = 0; k < p->top_k; k++)
            count[p->topk[t * p->top_k + k]]++;
        *z += (double)p->lse[t] * p->lse[t];
    }
}

/* Sums over blocks of tokens that do not depend on the threads, then over the blocks in order. */
static void cpu_router_stats(struct stream *s, const struct router_stats *p)
{
    int64_t experts = p->experts, blocks = min64(64, ceil_div(p->tokens, 64)), stride = 2 * experts + 1;
    double *part = xcalloc((size_t)(blocks * stride + 1), sizeof *part), z = 0;
#pragma omp parallel for schedule(static) if (p->tokens * experts > WORTH)
    for (int64_t b = 0; b < blocks; b++) {
        double *own = part + b * stride;
        stats_block(p, p->tokens * b / blocks, p->tokens * (b + 1) / blocks, own, own + experts,
                    own + 2 * experts);
    }
    for (int64_t e = 0; e < experts; e++) {
        double prob = 0, count = 0;
        for (int64_t b = 0; b < blocks; b++) {
            prob += part[b * stride + e];
            count += part[b * stride + experts + e];
        }
        p->prob[e] = (float)prob;
        p->count[e] = (float)count;
    }
    for (int64_t b = 0; b < blocks; b++)
        z += part[b * stride + 2 * experts];
    *p->z = (float)z;
    free(part);
}

/* Rows that lie anywhere the processor cannot foresee: it is asked for the beginning of those that come so many
 * later, or tokens' so many later. */
enum { ROWS_AHEAD = 2, BEGINNING = 2048 };

LOOP void ask_for_row(const void *x, int64_t width, enum type type)
{
    ask_for(x, min64(BEGINNING, width * (int64_t)type_bytes(type)));
}

static void cpu_permute(struct stream *s, const struct permute *p)
{
    size_t bytes = (size_t)p->width * type_bytes(p->type);
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++) {
        if (r + ROWS_AHEAD < rows)
            ask_for_row(at(p->x, p->source[r + ROWS_AHEAD] / p->top_k * p->width, p->type), p->width, p->type);
        if (bytes)
            memcpy(at(p->y, r * p->ldy, p->type), at(p->x, p->source[r] / p->top_k * p->width, p->type), bytes);
        if (p->weight_out)
            p->weight_out[r * p->ldw] = p->weight_in[p->source[r]];
    }
}

/* y = 0 + the rows. */
LOOP void add_up(void *y, const void *const *row, int64_t count, int64_t width, enum type T)
{
    PIECES(c, n, width, {
        struct lane_sum sum = {0};
        float v[LANES];
        for (int64_t i = 0; i < count; i++) {
            get(v, at(row[i], c, T), n, T);
            add_piece(&sum, v);
        }
        sums_to(v, &sum);
        put(at(y, c, T), v, n, T);
    });
}

LOOP void unpermute_row_loop(const struct unpermute *p, int64_t t, enum type T)
{
    enum { FEW = 16 };
    const int32_t *position = p->position + t * p->top_k, *later = position + ROWS_AHEAD * p->top_k;
    const void *few[FEW], **row = p->top_k <= FEW ? few : (void *)scratch(SCRATCH_A, 2 * p->top_k);
    int64_t rows = 0;
    for (int64_t k = 0; k < p->top_k; k++) {
        if (position[k] >= 0)
            row[rows++] = at(p->x, position[k] * p->ldx, T);
        if (t + ROWS_AHEAD < p->tokens && later[k] >= 0)
            ask_for_row(at(p->x, later[k] * p->ldx, T), p->width, T);
    }
    void *y = at(p->y, t * p->width, T);
    if (rows == 2)
        add_up(y, row, 2, p->width, T); /* without a loop in the loop */
    else
        add_up(y, row, rows, p->width, T);
    for (int64_t k = 0; p->weight_in && k < p->top_k; k++)
        p->weight_out[t * p->top_k + k] = position[k] < 0 ? 0 : p->weight_in[position[k] * p->ldw];
}
IN_LANES(unpermute_row, (const struct unpermute *p, int64_t t), (p, t))

static void cpu_unpermute(struct stream *s, const struct unpermute *p)
{
#pragma omp parallel for schedule(static) if (p->tokens * p->width > WORTH)
    for (int64_t t = 0; t < p->tokens; t++)
        unpermute_row(p, t);
}

/* The segment that row r is in: the last that begins at or before it. */
static int64_t segment_of(const struct regroup *p, int64_t r)
{
    int64_t lo = 0, hi = p->segments - 1;
    while (lo < hi) {
        int64_t mid = (lo + hi + 1) / 2;
        if (p->to[mid] <= r)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static void cpu_regroup(struct stream *s, const struct regroup *p)
{
    size_t bytes = (size_t)p->width * type_bytes(p->type);
    int64_t rows = p->segments ? counted(p->rows, &p->to[p->segments]) : 0;
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = segment_of(p, r), w = p->from[i] + r - p->to[i];
        void *grouped = at(p->grouped, r * p->width, p->type), *wire = at(p->wire, w * p->ld, p->type);
        if (bytes)
            memcpy(p->back ? wire : grouped, p->back ? grouped : wire, bytes);
        if (p->weight && p->back)
            p->wire_weight[w * p->ldw] = p->weight[r];
        else if (p->weight)
            p->weight[r] = p->wire_weight[w * p->ldw];
    }
}

void route_install(struct backend *be)
{
    be->router = cpu_router;
    be->router_backward = cpu_router_backward;
    be->router_stats = cpu_router_stats;
    be->permute = cpu_permute;
    be->unpermute = cpu_unpermute;
    be->regroup = cpu_regroup;
}
