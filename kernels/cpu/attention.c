/* SPDX-License-Identifier: MIT */
/* FlashAttention on the host: a STRIP of queries against a block of KEYS at a time, two or five small products
 * (micro.h) on one thread. Scores lie transposed, [keys, STRIP], a column for each query: maxima, sums and
 * exponentials then run along whole vectors, and keys and values are read as they lie. In the square on the
 * diagonal, which begins at a strip's first query, keys go in groups that skip the queries that see none of
 * them. A task owns what it writes, so the order of every sum is fixed. */
#include <stdlib.h>

#include "base/num.h"
#include "cpu.h"
#include "micro.h"
#include "piece.h"

enum { STRIP = 64, QUERIES = 4 * STRIP, KEYS = 2 * STRIP, GROUP = 16 };

static const float LOG2E = 1.44269504f, LN2 = 0.69314718f;

/* A head's rows as f32: `wide` elements, its dimension rounded up. */
struct operand {
    const float *x;
    int64_t ld;
};

/* `have` rows of a head, and zeros up to `rows`: where they lie, or in buf [rows, wide]. */
static struct operand operand(const void *p, int64_t first, int64_t ld, int64_t have, int64_t rows, int64_t dim,
                              enum type type, float *buf)
{
    int64_t wide = round_up(dim, MICRO_COLUMNS);
    if (type == F32 && wide == dim && have == rows)
        return (struct operand){(const float *)p + first, ld};
    for (int64_t r = 0; r < have; r++) {
        if (type == F32)
            memcpy(buf + r * wide, (const float *)p + first + r * ld, (size_t)dim * sizeof *buf);
        else
            widen(buf + r * wide, (const uint16_t *)p + first + r * ld, dim);
        memset(buf + r * wide + dim, 0, (size_t)(wide - dim) * sizeof *buf);
    }
    memset(buf + have * wide, 0, (size_t)((rows - have) * wide) * sizeof *buf);
    return (struct operand){buf, wide};
}

HOT static void write_row(void *y, const float *x, float by, int64_t n, enum type type)
{
    BY_TYPE(type, scale_to(y, x, by, n, T, F32));
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* to [wide, STRIP] = by · fromᵀ. */
HOT static void transpose(float *to, struct operand from, float by, int64_t wide)
{
    for (int64_t c = 0; c < STRIP; c += 4)
        for (int64_t d = 0; d < wide; d += 4) {
            const float *x = from.x + c * from.ld + d;
            four *y = (four *)(to + d * STRIP + c);
            four r0 = *(const four *)x, r1 = *(const four *)(x + from.ld);
            four r2 = *(const four *)(x + 2 * from.ld), r3 = *(const four *)(x + 3 * from.ld);
            four low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
                 low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
            four high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
                 high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
            y[0] = by * __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
            y[STRIP / 4] = by * __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
            y[2 * STRIP / 4] = by * __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
            y[3 * STRIP / 4] = by * __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
        }
}

/* What a strip sees of a block: its first `keys` keys, and of those before key `square` every query each. */
struct sight {
    int64_t keys, square;
};

static struct sight sight_of(int64_t from, int64_t queries, int64_t key)
{
    return (struct sight){min64(KEYS, from + queries - key), from - key};
}

/* s [keys, STRIP] = rows · columns, columns being [wide, STRIP]; `hidden` where a query does not see the key. */
static void pairs(float *s, struct sight of, struct operand rows, const float *columns, int64_t wide,
                  float hidden)
{
    micro_product(&(struct micro){.m = min64(of.keys, of.square),
                                  .n = STRIP,
                                  .k = wide,
                                  .a = rows.x,
                                  .row = rows.ld,
                                  .step = 1,
                                  .b = columns,
                                  .ldb = STRIP,
                                  .c = s,
                                  .ldc = STRIP});
    for (int64_t i = of.square; i < of.keys; i += GROUP) {
        int64_t skip = i - of.square;
        micro_product(&(struct micro){.m = min64(GROUP, of.keys - i),
                                      .n = STRIP - skip,
                                      .k = wide,
                                      .a = rows.x + i * rows.ld,
                                      .row = rows.ld,
                                      .step = 1,
                                      .b = columns + skip,
                                      .ldb = STRIP,
                                      .c = s + i * STRIP + skip,
                                      .ldc = STRIP});
    }
    for (int64_t i = of.square; i < of.keys; i++)
        for (int64_t c = 0; c < i - of.square; c++)
            s[i * STRIP + c] = hidden;
}

/* y [STRIP, wide] = sᵀ · x, x a row for each key; added to y if `add`. */
static void over_keys(float *y, struct sight of, const float *s, struct operand x, int64_t wide, bool add)
{
    int64_t group = of.square < of.keys ? GROUP : STRIP;
    for (int64_t c = 0; c < STRIP; c += group)
        micro_product(&(struct micro){.m = group,
                                      .n = wide,
                                      .k = min64(of.keys, of.square + c + group),
                                      .a = s + c,
                                      .row = 1,
                                      .step = STRIP,
                                      .b = x.x,
                                      .ldb = x.ld,
                                      .c = y + c * wide,
                                      .ldc = wide,
                                      .add = add});
}

/* y [keys, wide] += s · x, x a row for each query. */
static void over_queries(float *y, struct sight of, const float *s, struct operand x, int64_t wide)
{
    micro_product(&(struct micro){.m = min64(of.keys, of.square),
                                  .n = wide,
                                  .k = STRIP,
                                  .a = s,
                                  .row = STRIP,
                                  .step = 1,
                                  .b = x.x,
                                  .ldb = x.ld,
                                  .c = y,
                                  .ldc = wide,
                                  .add = true});
    for (int64_t i = of.square; i < of.keys; i += GROUP) {
        int64_t skip = i - of.square;
        micro_product(&(struct micro){.m = min64(GROUP, of.keys - i),
                                      .n = wide,
                                      .k = STRIP - skip,
                                      .a = s + i * STRIP + skip,
                                      .row = STRIP,
                                      .step = 1,
                                      .b = x.x + skip * x.ld,
                                      .ldb = x.ld,
                                      .c = y + i * wide,
                                      .ldc = wide,
                                      .add = true});
    }
}

/* A strip of queries on its way through the keys: its sum of unscaled outputs, and of each query the largest
 * score and the sum of exponentials, in powers of two. */
struct running {
    float max[STRIP], sum[STRIP];
    float *q, *o; /* [wide, STRIP], [STRIP, wide] */
};

enum { LANES = 32 }; /* as many as the compiler keeps in registers */

/* max = the largest of it and of each column of s. NaNs do not count. */
HOT static void column_maxima(float *max, const float *s, int64_t keys)
{
    for (int64_t c = 0; c < STRIP; c += LANES) {
        float lane[LANES];
        for (int l = 0; l < LANES; l++)
            lane[l] = max[c + l];
        for (int64_t i = 0; i < keys; i++)
            for (int l = 0; l < LANES; l++)
                lane[l] = s[i * STRIP + c + l] > lane[l] ? s[i * STRIP + c + l] : lane[l];
        for (int l = 0; l < LANES; l++)
            max[c + l] = lane[l];
    }
}

/* s = 2^(s - shift), in columns, which are added to sum. */
HOT static void column_powers(float *s, float *sum, const float *shift, int64_t keys)
{
    for (int64_t c = 0; c < STRIP; c += LANES) {
        float lane[LANES];
        for (int l = 0; l < LANES; l++)
            lane[l] = sum[c + l];
        for (int64_t i = 0; i < keys; i++)
            for (int l = 0; l < LANES; l++) {
                float e = exp2_fast(s[i * STRIP + c + l] - shift[c + l]);
                s[i * STRIP + c + l] = e;
                lane[l] += e;
            }
        for (int l = 0; l < LANES; l++)
            sum[c + l] = lane[l];
    }
}

HOT static void scale_row(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

/* Scores become powers relative to the running maximum. What was summed relative to the old maximum m fades by
 * 2^(m - m') when the new one m' is larger. */
static void softmax_strip(struct running *run, float *s, int64_t keys, int64_t wide, bool first)
{
    float shift[STRIP], old[STRIP];
    memcpy(old, run->max, sizeof old);
    column_maxima(run->max, s, keys);
    for (int c = 0; c < STRIP; c++) {
        shift[c] = run->max[c] == -INFINITY ? 0 : run->max[c];
        float fade = exp2_fast(old[c] - shift[c]);
        run->sum[c] *= fade;
        if (!first && fade != 1)
            scale_row(run->o + c * wide, fade, wide);
    }
    column_powers(s, run->sum, shift, keys);
}

static void begin_strip(struct running *run, const struct attention *p, int64_t row, int64_t head,
                        int64_t queries, float *buf)
{
    int64_t wide = round_up(p->dim, MICRO_COLUMNS);
    struct operand q =
        operand(p->q, row * p->ldq + head * p->dim, p->ldq, queries, STRIP, p->dim, p->type, buf);
    transpose(run->q, q, p->scale * LOG2E, wide);
    for (int c = 0; c < STRIP; c++) {
        run->max[c] = -INFINITY;
        run->sum[c] = 0;
    }
}

static void end_strip(const struct running *run, const struct attention *p, int64_t row, int64_t head,
                      int64_t queries)
{
    int64_t wide = round_up(p->dim, MICRO_COLUMNS);
    for (int64_t c = 0; c < queries; c++) {
        write_row(at(p->o, (row + c) * p->ldo + head * p->dim, p->type), run->o + c * wide, 1 / run->sum[c],
                  p->dim, p->type);
        p->lse[head * p->sequences * p->seq + row + c] = run->max[c] * LN2 + logf(run->sum[c]);
    }
}

static void forward_block(const struct attention *p, int64_t sequence, int64_t head, int64_t from)
{
    int64_t dim = p->dim, wide = round_up(dim, MICRO_COLUMNS), queries = min64(QUERIES, p->seq - from);
    int64_t base = sequence * p->seq, kv = head / (p->heads / p->kv_heads) * dim,
            strips = ceil_div(queries, STRIP);
    float *s = scratch(SCRATCH_A, KEYS * STRIP), *buf = scratch(SCRATCH_B, 2 * KEYS * wide);
    struct running run[QUERIES / STRIP];
    for (int64_t i = 0; i < strips; i++) {
        run[i].q = scratch(SCRATCH_C, 2 * QUERIES * wide) + 2 * i * STRIP * wide;
        run[i].o = run[i].q + STRIP * wide;
        begin_strip(run + i, p, base + from + i * STRIP, head, min64(STRIP, queries - i * STRIP), buf);
    }
    for (int64_t key = 0; key < from + queries; key += KEYS) {
        int64_t keys = min64(KEYS, from + queries - key), row = base + key;
        struct operand k = operand(p->k, row * p->ldk + kv, p->ldk, keys, keys, dim, p->type, buf);
        struct operand v =
            operand(p->v, row * p->ldv + kv, p->ldv, keys, keys, dim, p->type, buf + KEYS * wide);
        for (int64_t i = 0; i < strips; i++) {
            struct sight of = sight_of(from + i * STRIP, min64(STRIP, queries - i * STRIP), key);
            if (of.keys <= 0)
                continue;
            pairs(s, of, k, run[i].q, wide, -INFINITY);
            softmax_strip(run + i, s, of.keys, wide, key == 0);
            over_keys(run[i].o, of, s, v, wide, key > 0);
        }
    }
    for (int64_t i = 0; i < strips; i++)
        end_strip(run + i, p, base + from + i * STRIP, head, min64(STRIP, queries - i * STRIP));
}

/* The last blocks see the most keys: they go first. */
static void cpu_attention(struct stream *s, const struct attention *p)
{
    int64_t blocks = ceil_div(p->seq, QUERIES), tasks = p->sequences * p->heads;
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < blocks * tasks; i++)
        forward_block(p, i % tasks / p->heads, i % tasks % p->heads, (blocks - 1 - i / tasks) * QUERIES);
}

/* s = 2^(s - lse), in columns. */
HOT static void probabilities(float *s, const float *lse, int64_t keys)
{
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int c = 0; c < STRIP; c++)
            s[i * STRIP + c] = exp2_fast(s[i * STRIP + c] - lse[c]);
}

/* ds = p·(dp - delta)·scale, as derived in ref/attention.c. */
HOT static void score_gradients(float *s, const float *dp, const float *delta, float scale, int64_t keys)
{
    for (int64_t i = 0; i < keys; i++)
#pragma omp simd
        for (int c = 0; c < STRIP; c++)
            s[i * STRIP + c] *= (dp[i * STRIP + c] - delta[c]) * scale;
}

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

/* What a task of the backward pass holds: one key head of one sequence. */
struct gradients {
    const struct attention_backward *b;
    int64_t base, wide;
    struct operand k, v;      /* [seq, wide] */
    float *dk, *dv;           /* [seq, wide] sums, with room for a tile's rows */
    float *prob, *dp;         /* [KEYS, STRIP] */
    float *dq, *qbuf, *dobuf; /* [STRIP, wide] */
    float *qt, *dot;          /* [wide, STRIP] */
};

/* A strip's queries and gradients against the keys from `key`. */
static void backward_tile(struct gradients *g, struct sight of, int64_t key, struct operand q,
                          struct operand d_o, const float *lse, const float *delta)
{
    struct operand k = {g->k.x + key * g->k.ld, g->k.ld}, v = {g->v.x + key * g->v.ld, g->v.ld};
    int64_t wide = g->wide;
    pairs(g->dp, of, v, g->dot, wide, 0);
    pairs(g->prob, of, k, g->qt, wide, -INFINITY);
    probabilities(g->prob, lse, of.keys);
    over_queries(g->dv + key * wide, of, g->prob, d_o, wide);
    score_gradients(g->prob, g->dp, delta, g->b->fwd.scale, of.keys);
    over_keys(g->dq, of, g->prob, k, wide, key > 0);
    over_queries(g->dk + key * wide, of, g->prob, q, wide);
}

static void backward_strip(struct gradients *g, int64_t head, int64_t from)
{
    const struct attention *p = &g->b->fwd;
    int64_t dim = p->dim, queries = min64(STRIP, p->seq - from), row = g->base + from;
    int64_t first = head * p->sequences * p->seq + row;
    struct operand q = operand(p->q, row * p->ldq + head * dim, p->ldq, queries, STRIP, dim, p->type, g->qbuf);
    struct operand d_o =
        operand(g->b->d_o, row * g->b->lddo + head * dim, g->b->lddo, queries, STRIP, dim, p->type, g->dobuf);
    float lse[STRIP], delta[STRIP] = {0};
    transpose(g->qt, q, p->scale * LOG2E, g->wide);
    transpose(g->dot, d_o, 1, g->wide);
    for (int64_t c = 0; c < STRIP; c++) {
        lse[c] = c < queries ? p->lse[first + c] * LOG2E : INFINITY;
        if (c < queries)
            g->b->delta[first + c] = delta[c] = delta_of(p, row + c, head, d_o.x + c * d_o.ld);
    }
    for (int64_t key = 0; key < from + queries; key += KEYS)
        backward_tile(g, sight_of(from, queries, key), key, q, d_o, lse, delta);
    for (int64_t c = 0; c < queries; c++)
        write_row(at(g->b->dq, (row + c) * p->ldq + head * dim, p->type), g->dq + c * g->wide, 1, dim, p->type);
}

static void backward_task(const struct attention_backward *b, int64_t sequence, int64_t kv_head)
{
    const struct attention *p = &b->fwd;
    int64_t dim = p->dim, share = p->heads / p->kv_heads, base = sequence * p->seq, kv = kv_head * dim;
    int64_t wide = round_up(dim, MICRO_COLUMNS), all = round_up(p->seq, MICRO_ROWS) * wide,
            strip = STRIP * wide;
    float *sums = scratch(SCRATCH_A, 2 * all), *copies = scratch(SCRATCH_B, 2 * all);
    float *tiles = scratch(SCRATCH_C, 2 * KEYS * STRIP), *strips = scratch(SCRATCH_D, 5 * strip);
    struct gradients g = {
        .b = b,
        .base = base,
        .wide = wide,
        .dk = sums,
        .dv = sums + all,
        .prob = tiles,
        .dp = tiles + KEYS * STRIP,
        .dq = strips,
        .qbuf = strips + strip,
        .dobuf = strips + 2 * strip,
        .qt = strips + 3 * strip,
        .dot = strips + 4 * strip,
        .k = operand(p->k, base * p->ldk + kv, p->ldk, p->seq, p->seq, dim, p->type, copies),
        .v = operand(p->v, base * p->ldv + kv, p->ldv, p->seq, p->seq, dim, p->type, copies + all)};
    memset(sums, 0, (size_t)(2 * all) * sizeof *sums);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t from = 0; from < p->seq; from += STRIP)
            backward_strip(&g, head, from);
    for (int64_t r = 0; r < p->seq; r++) {
        write_row(at(b->dk, (base + r) * p->ldk + kv, p->type), g.dk + r * wide, 1, dim, p->type);
        write_row(at(b->dv, (base + r) * p->ldv + kv, p->type), g.dv + r * wide, 1, dim, p->type);
    }
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
