/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>

#include "../number.h"
#include "base/memory.h"
#include "ref.h"

void ref_rope(struct stream *s, const struct rope *p)
{
    int64_t half = p->rotary / 2;
    for (int64_t t = 0; t < p->rows; t++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < half; i++) {
                int64_t lo = t * p->ld + h * p->head_dim + i, hi = lo + half;
                const float *angle = p->cos_sin + t % p->seq * p->rotary;
                float cosine = angle[i], sine = p->inverse ? -angle[half + i] : angle[half + i];
                float a = load(p->x, lo, p->type), b = load(p->x, hi, p->type);
                store(p->x, lo, p->type, a * cosine - b * sine);
                store(p->x, hi, p->type, b * cosine + a * sine);
            }
}

static double dot(const void *a, int64_t i, const void *b, int64_t j, int64_t n, enum type type)
{
    double sum = 0;
    for (int64_t c = 0; c < n; c++)
        sum += (double)load(a, i + c, type) * load(b, j + c, type);
    return sum;
}

/* One query row: prob[j] = softmax over the keys 0..pos of its sequence; returns the logsumexp. */
static double row_probs(const struct attention *p, int64_t head, int64_t row, int64_t pos, double *prob)
{
    int64_t kv = head / (p->heads / p->kv_heads) * p->dim, first = row - pos;
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= pos; j++) {
        prob[j] = p->scale *
                  dot(p->q, row * p->ldq + head * p->dim, p->k, (first + j) * p->ldk + kv, p->dim, p->type);
        max = prob[j] > max ? prob[j] : max;
    }
    for (int64_t j = 0; j <= pos; j++)
        sum += prob[j] = exp(prob[j] - max);
    for (int64_t j = 0; j <= pos; j++)
        prob[j] /= sum;
    return max + log(sum);
}

void ref_attention(struct stream *s, const struct attention *p)
{
    int64_t rows = p->sequences * p->seq;
    double *prob = xmalloc((size_t)(p->seq + 1) * sizeof *prob);
    for (int64_t head = 0; head < p->heads; head++)
        for (int64_t row = 0; row < rows; row++) {
            int64_t pos = row % p->seq, kv = head / (p->heads / p->kv_heads) * p->dim;
            p->lse[head * rows + row] = (float)row_probs(p, head, row, pos, prob);
            for (int64_t c = 0; c < p->dim; c++) {
                double sum = 0;
                for (int64_t j = 0; j <= pos; j++)
                    sum += prob[j] * load(p->v, (row - pos + j) * p->ldv + kv + c, p->type);
                store(p->o, row * p->ldo + head * p->dim + c, p->type, (float)sum);
            }
        }
    free(prob);
}

/* Gradients in f64 until all heads have added theirs. */
struct grads {
    double *dq, *dk, *dv, *prob;
};

/* One query q with the keys j it sees: s_j = scale·q·k_j, p = softmax(s), o = Σ p_j·v_j. Backwards:
 *
 *     dp_j = d_o·v_j
 *     ds_j = p_j·(dp_j - Σ_i p_i·dp_i)        where the sum is d_o·Σ p_i·v_i = d_o·o: `delta`
 *     dq = Σ_j scale·ds_j·k_j,  dk_j += scale·ds_j·q,  dv_j += p_j·d_o
 *
 * `ds` below has the scale in it. Query heads that share a key head add to the same dk and dv. */
static void row_backward(const struct attention_backward *b, int64_t head, int64_t row, const struct grads *g)
{
    const struct attention *p = &b->fwd;
    int64_t pos = row % p->seq, first = row - pos, dim = p->dim, kv_head = head / (p->heads / p->kv_heads);
    int64_t wide = p->heads * dim, narrow = p->kv_heads * dim, q = head * dim, kv = kv_head * dim;
    double delta = dot(b->d_o, row * b->lddo + q, p->o, row * p->ldo + q, dim, p->type);
    b->delta[head * p->sequences * p->seq + row] = (float)delta;
    row_probs(p, head, row, pos, g->prob);
    for (int64_t j = 0; j <= pos; j++) {
        int64_t key = first + j;
        double dp = dot(b->d_o, row * b->lddo + q, p->v, key * p->ldv + kv, dim, p->type);
        double ds = g->prob[j] * (dp - delta) * p->scale;
        for (int64_t c = 0; c < dim; c++) {
            g->dq[row * wide + q + c] += ds * load(p->k, key * p->ldk + kv + c, p->type);
            g->dk[key * narrow + kv + c] += ds * load(p->q, row * p->ldq + q + c, p->type);
            g->dv[key * narrow + kv + c] += g->prob[j] * load(b->d_o, row * b->lddo + q + c, p->type);
        }
    }
}

static void put(void *dst, int64_t ld, const double *src, int64_t rows, int64_t width, enum type type)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++)
            store(dst, r * ld + c, type, (float)src[r * width + c]);
}

void ref_attention_backward(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
    int64_t rows = p->sequences * p->seq, wide = p->heads * p->dim, narrow = p->kv_heads * p->dim;
    struct grads g = {
        .dq = xcalloc((size_t)(rows * wide + 1), sizeof(double)),
        .dk = xcalloc((size_t)(rows * narrow + 1), sizeof(double)),
        .dv = xcalloc((size_t)(rows * narrow + 1), sizeof(double)),
        .prob = xmalloc((size_t)(p->seq + 1) * sizeof(double)),
    };
    for (int64_t head = 0; head < p->heads; head++)
        for (int64_t row = 0; row < rows; row++)
            row_backward(b, head, row, &g);
    put(b->dq, p->ldq, g.dq, rows, wide, p->type);
    put(b->dk, p->ldk, g.dk, rows, narrow, p->type);
    put(b->dv, p->ldv, g.dv, rows, narrow, p->type);
    free(g.dq);
    free(g.dk);
    free(g.dv);
    free(g.prob);
}
