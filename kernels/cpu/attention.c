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

/* buf [rows, wide] = `have` rows of a head as f32 and zeros. Rows that lie far apart would share few of a
 * cache's sets. */
HOT static void gather(float *buf, const void *p, int64_t first, int64_t ld, int64_t have, int64_t rows,
                       int64_t dim, enum type type)
{
    int64_t wide = round_up(dim, MICRO_COLUMNS);
    for (int64_t r = 0; r < have; r++) {
        BY_TYPE(type, scale_to(buf + r * wide, at(p, first + r * ld, T), 1, dim, F32, T));
        memset(buf + r * wide + dim, 0, (size_t)(wide - dim) * sizeof *buf);
    }
    memset(buf + have * wide, 0, (size_t)((rows - have) * wide) * sizeof *buf);
}

/* Row r of a head = by[r]·x[r], x [rows, wide]; by NULL: x itself. */
HOT static void scatter(void *y, int64_t first, int64_t ld, const float *x, const float *by, int64_t rows,
                        int64_t dim, enum type type)
{
    int64_t wide = round_up(dim, MICRO_COLUMNS);
    for (int64_t r = 0; r < rows; r++)
        BY_TYPE(type, scale_to(at(y, first + r * ld, T), x + r * wide, by ? by[r] : 1, dim, T, F32));
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* to [wide, STRIP] = by · fromᵀ. */
HOT static void transpose(float *to, const float *from, float by, int64_t wide)
{
    for (int64_t c = 0; c < STRIP; c += 4)
        for (int64_t d = 0; d < wide; d += 4) {
            const float *x = from + c * wide + d;
            four *y = (four *)(to + d * STRIP + c);
            four r0 = *(const four *)x, r1 = *(const four *)(x + wide);
            four r2 = *(const four *)(x + 2 * wide), r3 = *(const four *)(x + 3 * wide);
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

/* s [keys, STRIP] = rows · columns, of [keys, wide] and [wide, STRIP]; `hidden` where a query does not see the
 * key. */
static void pairs(float *s, struct sight of, const float *rows, const float *columns, int64_t wide,
                  float hidden)
{
    struct micro all = {.m = min64(of.keys, of.square),
                        .n = STRIP,
                        .k = wide,
                        .a = rows,
                        .row = wide,
                        .step = 1,
                        .b = columns,
                        .ldb = STRIP,
                        .c = s,
                        .ldc = STRIP};
    micro_product(&all);
    for (int64_t i = of.square; i < of.keys; i += GROUP) {
        struct micro group = all;
        int64_t skip = i - of.square;
        group.m = min64(GROUP, of.keys - i);
        group.n = STRIP - skip;
        group.a += i * wide;
        group.b += skip;
        group.c += i * STRIP + skip;
        micro_product(&group);
    }
    for (int64_t i = of.square; i < of.keys; i++)
        for (int64_t c = 0; c < i - of.square; c++)
            s[i * STRIP + c] = hidden;
}

/* y [STRIP, wide] = sᵀ · x, x [keys, wide]; added to y if `add`. */
static void over_keys(float *y, struct sight of, const float *s, const float *x, int64_t wide, bool add)
{
    int64_t group = of.square < of.keys ? GROUP : STRIP;
    for (int64_t c = 0; c < STRIP; c += group)
        micro_product(&(struct micro){.m = group,
                                      .n = wide,
                                      .k = min64(of.keys, of.square + c + group),
                                      .a = s + c,
                                      .row = 1,
                                      .step = STRIP,
                                      .b = x,
                                      .ldb = wide,
                                      .c = y + c * wide,
                                      .ldc = wide,
                                      .add = add});
}

/* y [keys, wide] += s · x, x [STRIP, wide]. */
static void over_queries(float *y, struct sight of, const float *s, const float *x, int64_t wide)
{
    struct micro all = {.m = min64(of.keys, of.square),
                        .n = wide,
                        .k = STRIP,
                        .a = s,
                        .row = STRIP,
                        .step = 1,
                        .b = x,
                        .ldb = wide,
                        .c = y,
                        .ldc = wide,
                        .add = true};
    micro_product(&all);
    for (int64_t i = of.square; i < of.keys; i += GROUP) {
        struct micro group = all;
        int64_t skip = i - of.square;
        group.m = min64(GROUP, of.keys - i);
        group.k = STRIP - skip;
        group.a += i * STRIP + skip;
        group.b += skip * wide;
        group.c += i * wide;
        micro_product(&group);
    }
}

/* A strip of queries on its way through the keys: its sum of unscaled outputs, and of each query the largest
 * score and the sum of exponentials, in powers of two. */
struct running {
    float max[STRIP], sum[STRIP];
    float *q, *o; /* [wide, STRIP], [STRIP, wide] */
};

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

/* What was summed relative to the old maximum m fades by 2^(m - m') when the new one m' is larger. */
HOT static void fade(struct running *run, float *shift, const float *old, int64_t wide, bool first)
{
    float by[STRIP];
#pragma omp simd
    for (int c = 0; c < STRIP; c++) {
        shift[c] = run->max[c] == -INFINITY ? 0 : run->max[c];
        by[c] = exp2_fast(old[c] - shift[c]);
        run->sum[c] *= by[c];
    }
    for (int64_t c = 0; !first && c < STRIP; c++)
        if (by[c] != 1)
            scale_to(run->o + c * wide, run->o + c * wide, by[c], wide, F32, F32);
}

static void begin_strip(struct running *run, const struct attention *p, int64_t row, int64_t head,
                        int64_t queries, float *buf)
{
    gather(buf, p->q, row * p->ldq + head * p->dim, p->ldq, queries, STRIP, p->dim, p->type);
    transpose(run->q, buf, p->scale * LOG2E, round_up(p->dim, MICRO_COLUMNS));
    for (int c = 0; c < STRIP; c++) {
        run->max[c] = -INFINITY;
        run->sum[c] = 0;
    }
}

static void see(struct running *run, struct sight of, float *s, const float *k, const float *v, int64_t wide,
                bool first)
{
    float shift[STRIP], old[STRIP];
    memcpy(old, run->max, sizeof old);
    pairs(s, of, k, run->q, wide, -INFINITY);
    column_maxima(run->max, s, of.keys);
    fade(run, shift, old, wide, first);
    column_powers(s, run->sum, shift, of.keys);
    over_keys(run->o, of, s, v, wide, !first);
}

static void end_strip(const struct running *run, const struct attention *p, int64_t row, int64_t head,
                      int64_t queries)
{
    float by[STRIP];
    for (int64_t c = 0; c < queries; c++) {
        by[c] = 1 / run->sum[c];
        p->lse[head * p->sequences * p->seq + row + c] = run->max[c] * LN2 + logf(run->sum[c]);
    }
    scatter(p->o, row * p->ldo + head * p->dim, p->ldo, run->o, by, queries, p->dim, p->type);
}

static void forward_block(const struct attention *p, int64_t sequence, int64_t head, int64_t from)
{
    int64_t dim = p->dim, wide = round_up(dim, MICRO_COLUMNS), strip = STRIP * wide;
    int64_t base = sequence * p->seq, kv = head / (p->heads / p->kv_heads) * dim;
    int64_t queries = min64(QUERIES, p->seq - from), strips = ceil_div(queries, STRIP);
    float *s = scratch(SCRATCH_A, KEYS * STRIP), *k = scratch(SCRATCH_B, 2 * KEYS * wide), *v = k + KEYS * wide;
    struct running run[QUERIES / STRIP];
    for (int64_t i = 0, c = 0; i < strips; i++, c += STRIP) {
        run[i].q = scratch(SCRATCH_C, 2 * QUERIES * wide) + 2 * i * strip;
        run[i].o = run[i].q + strip;
        begin_strip(run + i, p, base + from + c, head, min64(STRIP, queries - c), k);
    }
    for (int64_t key = 0; key < from + queries; key += KEYS) {
        int64_t keys = min64(KEYS, from + queries - key), row = base + key;
        gather(k, p->k, row * p->ldk + kv, p->ldk, keys, keys, dim, p->type);
        gather(v, p->v, row * p->ldv + kv, p->ldv, keys, keys, dim, p->type);
        for (int64_t i = 0, c = 0; i < strips; i++, c += STRIP) {
            struct sight of = sight_of(from + c, min64(STRIP, queries - c), key);
            if (of.keys > 0)
                see(run + i, of, s, k, v, wide, key == 0);
        }
    }
    for (int64_t i = 0, c = 0; i < strips; i++, c += STRIP)
        end_strip(run + i, p, base + from + c, head, min64(STRIP, queries - c));
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

LOOP void deltas_loop(float *delta, const float *d_o, const void *o, int64_t ldo, int64_t rows, int64_t dim,
                      enum type T)
{
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < dim; i++)
            sum += d_o[r * round_up(dim, MICRO_COLUMNS) + i] * load(o, r * ldo + i, T);
        delta[r] = sum;
    }
}

/* Σ d_o·o of each row, d_o [rows, wide]. */
HOT static void deltas(float *delta, const struct attention *p, int64_t row, int64_t head, const float *d_o,
                       int64_t rows)
{
    BY_TYPE(p->type,
            deltas_loop(delta, d_o, at(p->o, row * p->ldo + head * p->dim, T), p->ldo, rows, p->dim, T));
}

/* What a task of the backward pass holds: one key head of one sequence. */
struct gradients {
    const struct attention_backward *b;
    int64_t base, wide;
    float *k, *v, *dk, *dv;     /* [seq, wide]; the gradients have room for a tile's rows */
    float *prob, *dp;           /* [KEYS, STRIP] */
    float *q, *d_o, *dq;        /* [STRIP, wide] */
    float *columns, *d_columns; /* [wide, STRIP]: q in powers of two, and d_o */
};

/* A strip's queries and gradients against the keys from `key`. */
static void backward_tile(struct gradients *g, struct sight of, int64_t key, const float *lse,
                          const float *delta)
{
    int64_t wide = g->wide, at = key * wide;
    pairs(g->dp, of, g->v + at, g->d_columns, wide, 0);
    pairs(g->prob, of, g->k + at, g->columns, wide, -INFINITY);
    probabilities(g->prob, lse, of.keys);
    over_queries(g->dv + at, of, g->prob, g->d_o, wide);
    score_gradients(g->prob, g->dp, delta, g->b->fwd.scale, of.keys);
    over_keys(g->dq, of, g->prob, g->k + at, wide, key > 0);
    over_queries(g->dk + at, of, g->prob, g->q, wide);
}

static void backward_strip(struct gradients *g, int64_t head, int64_t from)
{
    const struct attention_backward *b = g->b;
    const struct attention *p = &b->fwd;
    int64_t dim = p->dim, queries = min64(STRIP, p->seq - from), row = g->base + from, first = head * dim;
    const float *stored = p->lse + head * p->sequences * p->seq + row;
    float lse[STRIP], delta[STRIP] = {0};
    gather(g->q, p->q, row * p->ldq + first, p->ldq, queries, STRIP, dim, p->type);
    gather(g->d_o, b->d_o, row * b->lddo + first, b->lddo, queries, STRIP, dim, p->type);
    transpose(g->columns, g->q, p->scale * LOG2E, g->wide);
    transpose(g->d_columns, g->d_o, 1, g->wide);
    deltas(delta, p, row, head, g->d_o, queries);
    memcpy(b->delta + (stored - p->lse), delta, (size_t)queries * sizeof *delta);
    for (int64_t c = 0; c < STRIP; c++)
        lse[c] = c < queries ? stored[c] * LOG2E : INFINITY;
    for (int64_t key = 0; key < from + queries; key += KEYS)
        backward_tile(g, sight_of(from, queries, key), key, lse, delta);
    scatter(b->dq, row * p->ldq + first, p->ldq, g->dq, NULL, queries, dim, p->type);
}

static void backward_task(const struct attention_backward *b, int64_t sequence, int64_t kv_head)
{
    const struct attention *p = &b->fwd;
    int64_t dim = p->dim, share = p->heads / p->kv_heads, base = sequence * p->seq, kv = kv_head * dim;
    int64_t wide = round_up(dim, MICRO_COLUMNS), strip = STRIP * wide, tile = KEYS * STRIP;
    int64_t all = round_up(p->seq, MICRO_ROWS) * wide, k = base * p->ldk + kv, v = base * p->ldv + kv;
    struct gradients g = {.b = b,
                          .base = base,
                          .wide = wide,
                          .k = scratch(SCRATCH_A, 4 * all),
                          .prob = scratch(SCRATCH_B, 2 * tile),
                          .q = scratch(SCRATCH_C, 5 * strip)};
    g.v = g.k + all;
    g.dk = g.v + all;
    g.dv = g.dk + all;
    g.dp = g.prob + tile;
    g.d_o = g.q + strip;
    g.dq = g.d_o + strip;
    g.columns = g.dq + strip;
    g.d_columns = g.columns + strip;
    gather(g.k, p->k, k, p->ldk, p->seq, p->seq, dim, p->type);
    gather(g.v, p->v, v, p->ldv, p->seq, p->seq, dim, p->type);
    memset(g.dk, 0, (size_t)(2 * all) * sizeof *g.dk);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t from = 0; from < p->seq; from += STRIP)
            backward_strip(&g, head, from);
    scatter(b->dk, k, p->ldk, g.dk, NULL, p->seq, dim, p->type);
    scatter(b->dv, v, p->ldv, g.dv, NULL, p->seq, dim, p->type);
}

static void cpu_attention_backward(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < p->sequences * p->kv_heads; i++)
        backward_task(b, i / p->kv_heads, i % p->kv_heads);
}

void attention_install(struct backend *be)
{
    be->attention = cpu_attention;
    be->attention_backward = cpu_attention_backward;
}
