/* SPDX-License-Identifier: MIT */
/* FlashAttention on the host: blocks of QUERIES × KEYS scores, each block two or five small matrix products on
 * one thread. A task owns what it writes, so the order of every sum is fixed. */
#include <stdlib.h>

#include "base/num.h"
#include "cpu.h"
#include "matmul.h"
#include "piece.h"

enum { QUERIES = 128, KEYS = 512 };

/* `rows` rows of a head as f32, with their leading dimension in *ld. */
static const float *block(const void *p, int64_t first, int64_t *ld, int64_t rows, int64_t dim, enum type type,
                          float *buf)
{
    if (type == F32)
        return (const float *)p + first;
    for (int64_t r = 0; r < rows; r++)
        widen(buf + r * dim, (const uint16_t *)p + first + r * *ld, dim);
    *ld = dim;
    return buf;
}

static void write_block(void *p, int64_t first, int64_t ld, int64_t rows, int64_t dim, enum type type,
                        const float *x)
{
    for (int64_t r = 0; r < rows; r++) {
        if (type == F32)
            memcpy((float *)p + first + r * ld, x + r * dim, (size_t)dim * sizeof *x);
        else
            narrow((uint16_t *)p + first + r * ld, x + r * dim, dim);
    }
}

HOT static float exp_row(float *x, float shift, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        x[i] = exp_fast(x[i] - shift);
        sum += x[i];
    }
    return sum;
}

HOT static void scale_row(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

/* Running state of a block of queries: the sum of unscaled outputs, and per row the maximum and the sum. */
struct running {
    float max[QUERIES], sum[QUERIES];
    float *o; /* [QUERIES, dim] */
};

/* One row's scores become probabilities relative to the running maximum; the first `seen` keys count. What was
 * summed relative to the old maximum m fades by exp(m - m') when the new one m' is larger. */
static void softmax_row(struct running *run, int64_t r, float *score, int64_t seen, int64_t keys, int64_t dim)
{
    float max = max_of(score, seen);
    if (run->max[r] > max)
        max = run->max[r];
    float shift = max == -INFINITY ? 0 : max, fade = exp_fast(run->max[r] - shift);
    run->sum[r] = run->sum[r] * fade + exp_row(score, shift, seen);
    run->max[r] = max;
    if (fade != 1)
        scale_row(run->o + r * dim, fade, dim);
    memset(score + seen, 0, (size_t)(keys - seen) * sizeof *score);
}

/* How many of the keys [first, first+keys) query `pos` sees. */
static int64_t seen_by(int64_t pos, int64_t first, int64_t keys)
{
    return max64(0, min64(keys, pos + 1 - first));
}

static void forward_block(const struct attention *p, int64_t sequence, int64_t head, int64_t from)
{
    int64_t dim = p->dim, queries = min64(QUERIES, p->seq - from), total = p->sequences * p->seq;
    int64_t base = sequence * p->seq, kv = head / (p->heads / p->kv_heads) * dim, ldq = p->ldq;
    float *score = scratch(SCRATCH_A, QUERIES * KEYS), *buf = scratch(SCRATCH_B, KEYS * dim);
    struct running run = {.o = scratch(SCRATCH_C, 2 * QUERIES * dim)};
    const float *q =
        block(p->q, (base + from) * ldq + head * dim, &ldq, queries, dim, p->type, run.o + QUERIES * dim);
    memset(run.o, 0, (size_t)(queries * dim) * sizeof *run.o);
    for (int64_t r = 0; r < queries; r++)
        run.max[r] = -INFINITY;
    for (int64_t key = 0; key < from + queries; key += KEYS) {
        int64_t keys = min64(KEYS, from + queries - key), ldk = p->ldk, ldv = p->ldv;
        const float *k = block(p->k, (base + key) * ldk + kv, &ldk, keys, dim, p->type, buf);
        product(false, true, queries, keys, dim, p->scale, q, ldq, k, ldk, 0, score, keys);
        for (int64_t r = 0; r < queries; r++)
            softmax_row(&run, r, score + r * keys, seen_by(from + r, key, keys), keys, dim);
        const float *v = block(p->v, (base + key) * ldv + kv, &ldv, keys, dim, p->type, buf);
        product(false, false, queries, dim, keys, 1, score, keys, v, ldv, 1, run.o, dim);
    }
    for (int64_t r = 0; r < queries; r++) {
        scale_row(run.o + r * dim, 1 / run.sum[r], dim);
        p->lse[head * total + base + from + r] = run.max[r] + logf(run.sum[r]);
    }
    write_block(p->o, (base + from) * p->ldo + head * dim, p->ldo, queries, dim, p->type, run.o);
}

/* The last blocks see the most keys: they go first. */
static void cpu_attention(struct stream *s, const struct attention *p)
{
    int64_t blocks = ceil_div(p->seq, QUERIES), tasks = p->sequences * p->heads;
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < blocks * tasks; i++)
        forward_block(p, i % tasks / p->heads, i % tasks % p->heads, (blocks - 1 - i / tasks) * QUERIES);
}

/* ds = p·(dp - delta)·scale, as derived in ref/attention.c. */
HOT static void ds_row(float *prob, const float *dp, float delta, float scale, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        prob[i] *= (dp[i] - delta) * scale;
}

/* What a task of the backward pass holds: one key head of one sequence. */
struct gradients {
    const struct attention_backward *b;
    int64_t base, kv;
    float *dk, *dv;             /* [seq, dim] sums */
    float *prob, *dp, *dq;      /* of a block */
    float *kbuf, *qbuf, *dobuf; /* converted blocks */
};

LOOP float dot_loop(const float *x, const void *y, int64_t n, enum type T)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * load(y, i, T);
    return sum;
}

/* Σ d_o·o of a row. */
HOT static float delta_of(const struct attention *p, int64_t row, int64_t head, const float *d_o)
{
    float sum;
    BY_TYPE(p->type, sum = dot_loop(d_o, at(p->o, row * p->ldo + head * p->dim, T), p->dim, T));
    return sum;
}

/* A block of `queries` from `from`, against the keys from `key`. */
static void backward_tile(struct gradients *g, const float *lse, const float *delta, const float *q,
                          int64_t ldq, const float *d_o, int64_t lddo, int64_t from, int64_t queries,
                          int64_t key)
{
    const struct attention *p = &g->b->fwd;
    int64_t dim = p->dim, keys = min64(KEYS, from + queries - key), ldk = p->ldk, ldv = p->ldv;
    const float *v = block(p->v, (g->base + key) * ldv + g->kv, &ldv, keys, dim, p->type, g->kbuf);
    product(false, true, queries, keys, dim, 1, d_o, lddo, v, ldv, 0, g->dp, keys);
    const float *k = block(p->k, (g->base + key) * ldk + g->kv, &ldk, keys, dim, p->type, g->kbuf);
    product(false, true, queries, keys, dim, p->scale, q, ldq, k, ldk, 0, g->prob, keys);
    for (int64_t r = 0; r < queries; r++) {
        float *prob = g->prob + r * keys;
        int64_t seen = seen_by(from + r, key, keys);
        exp_row(prob, lse[r], seen);
        memset(prob + seen, 0, (size_t)(keys - seen) * sizeof *prob);
    }
    product(true, false, keys, dim, queries, 1, g->prob, keys, d_o, lddo, 1, g->dv + key * dim, dim);
    for (int64_t r = 0; r < queries; r++)
        ds_row(g->prob + r * keys, g->dp + r * keys, delta[r], p->scale, seen_by(from + r, key, keys));
    product(false, false, queries, dim, keys, 1, g->prob, keys, k, ldk, 1, g->dq, dim);
    product(true, false, keys, dim, queries, 1, g->prob, keys, q, ldq, 1, g->dk + key * dim, dim);
}

static void backward_block(struct gradients *g, int64_t head, int64_t from)
{
    const struct attention *p = &g->b->fwd;
    int64_t dim = p->dim, queries = min64(QUERIES, p->seq - from), row = g->base + from;
    int64_t ldq = p->ldq, lddo = g->b->lddo, stats = head * p->sequences * p->seq + row;
    const float *q = block(p->q, row * ldq + head * dim, &ldq, queries, dim, p->type, g->qbuf);
    const float *d_o = block(g->b->d_o, row * lddo + head * dim, &lddo, queries, dim, p->type, g->dobuf);
    float *delta = g->b->delta + stats;
    for (int64_t r = 0; r < queries; r++)
        delta[r] = delta_of(p, row + r, head, d_o + r * lddo);
    memset(g->dq, 0, (size_t)(queries * dim) * sizeof *g->dq);
    for (int64_t key = 0; key < from + queries; key += KEYS)
        backward_tile(g, p->lse + stats, delta, q, ldq, d_o, lddo, from, queries, key);
    write_block(g->b->dq, row * p->ldq + head * dim, p->ldq, queries, dim, p->type, g->dq);
}

static void backward_task(const struct attention_backward *b, int64_t sequence, int64_t kv_head)
{
    const struct attention *p = &b->fwd;
    int64_t dim = p->dim, share = p->heads / p->kv_heads, base = sequence * p->seq, kv = kv_head * dim;
    struct gradients g = {.b = b, .base = base, .kv = kv};
    g.dk = scratch(SCRATCH_A, 2 * p->seq * dim);
    g.dv = g.dk + p->seq * dim;
    g.prob = scratch(SCRATCH_B, 2 * QUERIES * KEYS);
    g.dp = g.prob + QUERIES * KEYS;
    g.kbuf = scratch(SCRATCH_C, KEYS * dim);
    g.dq = scratch(SCRATCH_D, 3 * QUERIES * dim);
    g.qbuf = g.dq + QUERIES * dim;
    g.dobuf = g.qbuf + QUERIES * dim;
    memset(g.dk, 0, (size_t)(2 * p->seq * dim) * sizeof *g.dk);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t from = 0; from < p->seq; from += QUERIES)
            backward_block(&g, head, from);
    write_block(b->dk, base * p->ldk + kv, p->ldk, p->seq, dim, p->type, g.dk);
    write_block(b->dv, base * p->ldv + kv, p->ldv, p->seq, dim, p->type, g.dv);
}

static void cpu_attention_backward(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < p->sequences * p->kv_heads; i++)
        backward_task(b, i / p->kv_heads, i % p->kv_heads);
}

LOOP void rotate(void *lo, void *hi, const float *cosine, const float *sine, float sign, int64_t half,
                 enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = load(lo, i, T), b = load(hi, i, T), turn = sign * sine[i];
        store(lo, i, T, a * cosine[i] - b * turn);
        store(hi, i, T, b * cosine[i] + a * turn);
    }
}

HOT static void rope_row(const struct rope *p, int64_t t)
{
    const float *angle = p->cos_sin + t % p->seq * p->rotary;
    int64_t half = p->rotary / 2;
    for (int64_t h = 0; h < p->heads; h++) {
        int64_t x = t * p->ld + h * p->head_dim;
        BY_TYPE(p->type, rotate(at(p->x, x, T), at(p->x, x + half, T), angle, angle + half, p->inverse ? -1 : 1,
                                half, T));
    }
}

static void cpu_rope(struct stream *s, const struct rope *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->heads * p->rotary > WORTH)
    for (int64_t t = 0; t < p->rows; t++)
        rope_row(p, t);
}

void attention_install(struct backend *be)
{
    be->attention = cpu_attention;
    be->attention_backward = cpu_attention_backward;
    be->rope = cpu_rope;
}
