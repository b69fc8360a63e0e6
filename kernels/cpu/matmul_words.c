/* SPDX-License-Identifier: MIT */
/* Tiles of products on x86 with AVX-512, made for what a step has most of: an expert's few rows with
 * weights that nobody has read since the last step. Each operand of a tile is packed once, however ragged
 * the rows, and while it multiplies memory is asked for the operands and sums that come next.
 *
 * A word is 32 bits: an f32, or two bf16 that are neighbours in K. A product is one of words; only the
 * instruction that multiplies and adds differs. Operands are packed (BLIS, van Zee and van de Geijn 2015):
 *
 *     A   strips of up to MR rows:      [strip][word of K][16]
 *     B   panels of NR columns, one at a time:  [word of K][NR]
 *
 * so that the innermost loop broadcasts words of a strip and reads a panel from the first caches, with all
 * of an MR x NR piece of C in registers. What can be packed on the way is: a panel whose rows lie in memory
 * as they are packed by the first strip's product, and a strip just before that of the first panel.
 *
 * An element of C is summed in the order of K, in one chain a block: its bits depend neither on the tiles nor
 * on the threads. */
#include "matmul.h"

#ifdef __x86_64__
#include <immintrin.h>

#include "base/fence.h"
#include "base/num.h"
#include "piece.h"

/* One target, so that all of it can be inlined. Only what computes on pairs uses instructions of bf16. */
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,prfchw")))
#define INLINE static inline __attribute__((always_inline)) AVX512

enum {
    MR = 14,     /* with two vectors of columns: 28 sums, 2 words of B and 1 of A in 32 registers */
    VECTOR = 16, /* words */
    NR = 2 * VECTOR,
    DEPTH = 256,       /* words of K at a time, but for */
    WHOLE = 512,       /* so few that one block has them all */
    KEPT = 160 * 1024, /* words of A, packed: two thirds of a 1 MiB L2 */
    MOST = 1024,       /* rows of a tile */
    LINE = 64,
    NEAR = 4,  /* rows of K: their lines, and those of the next, stay in the first cache at any stride */
    SOON = 8,  /* words of K by which B is asked for ahead while it is packed and multiplied */
    EACH = 16, /* words of K from one look_ahead() to the next */
};

/* Elements of K a block. */
static int64_t block_depth(int64_t k, enum packing how)
{
    int64_t word = how == PACK_PAIRS ? 2 : 1, blocks = k <= WHOLE * word ? 1 : ceil_div(k, DEPTH * word);
    return round_up(ceil_div(k, blocks), 2);
}

int64_t matmul_words_rows(const struct matmul *p, enum packing how)
{
    int64_t words = ceil_div(block_depth(max64(p->k, 1), how), how == PACK_PAIRS ? 2 : 1);
    return min64(MOST, KEPT / words / 32 * 32);
}

/* Part of an operand: `count` rows of A or columns of B (the outer dimension) by K. Element (o, k) is at
 * p + o·outer + k·inner bytes, and one of the two strides is an element. */
struct operand {
    const char *p;
    int64_t outer, inner;
    int64_t bytes; /* of an element */
};

INLINE bool along_k(const struct operand *o)
{
    return o->inner == o->bytes;
}

INLINE struct operand outer_from(const struct operand *o, int64_t i)
{
    return (struct operand){o->p + i * o->outer, o->outer, o->inner, o->bytes};
}

/* Lines of memory that will be read, `across` of each of `rows` rows, and `each` are asked for at a time. */
struct fetch {
    const char *p;
    int64_t ld, across, row, rows, at, each;
};

/* Of `count` of the outer dimension from `first`, by k; within so many calls of fetch(). */
INLINE struct fetch fetch_of(const struct operand *o, int64_t first, int64_t count, int64_t k, int64_t calls)
{
    bool rows = along_k(o);
    struct fetch l = {.p = o->p + first * o->outer,
                      .ld = rows ? o->outer : o->inner,
                      .across = ceil_div((rows ? k : count) * o->bytes, LINE),
                      .rows = rows ? count : k};
    l.each = ceil_div(max64(l.rows, 0) * max64(l.across, 0), calls);
    return l;
}

INLINE void fetch(struct fetch *l)
{
    for (int64_t i = 0; i < l->each && l->row < l->rows; i++) {
        _mm_prefetch(l->p + l->row * l->ld + l->at * LINE, _MM_HINT_T0);
        if (++l->at == l->across) {
            l->at = 0;
            l->row++;
        }
    }
}

/* What is asked for while a panel multiplies: the panel behind it, the strip that is packed next, and at last
 * the next block's first panel and what is packed of its A before that. */
struct ahead {
    struct fetch panel, strip, next_panel, next_a;
};

INLINE void look_ahead(struct ahead *h)
{
    fetch(&h->panel);
    fetch(&h->strip);
    fetch(&h->next_panel);
    fetch(&h->next_a);
}

INLINE __mmask16 first_lanes(int64_t n)
{
    return n >= VECTOR ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

/* ---- packing ---- */

/* The 16 words from element k of a row whose elements are neighbours; what is beyond `left` elements is 0. */
INLINE __m512i row_words(const char *p, int64_t left, enum packing how)
{
    if (how == PACK_F32)
        return _mm512_maskz_loadu_epi32(first_lanes(left), p);
    if (how == PACK_PAIRS)
        return _mm512_maskz_loadu_epi16(left >= 2 * VECTOR ? ~0u : (1u << left) - 1, p);
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(left), p)), 16);
}

INLINE void transpose(__m512i r[VECTOR])
{
    __m512i t[VECTOR];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
#pragma GCC unroll 2
        for (int j = 0; j < 16; j += 8) {
            t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
        }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Up to 16 of the outer dimension, whose elements along K are neighbours: to[word of K][width]. */
INLINE void pack_rows(const struct operand *o, int64_t count, int64_t k, float *to, int64_t width,
                      enum packing how)
{
    int64_t step = how == PACK_PAIRS ? 2 * VECTOR : VECTOR;
    for (int64_t at = 0; at < k; at += step, to += VECTOR * width) {
        __m512i r[VECTOR];
        int64_t left = k - at, filled = how == PACK_PAIRS ? (left + 1) / 2 : left;
#pragma GCC unroll 16
        for (int i = 0; i < VECTOR; i++)
            r[i] =
                i < count ? row_words(o->p + i * o->outer + at * o->bytes, left, how) : _mm512_setzero_si512();
        transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < VECTOR; i++)
            if (i < filled)
                _mm512_store_si512(to + i * width, r[i]);
    }
}

INLINE __mmask32 first_halves(int64_t n)
{
    return n >= 2 * VECTOR ? ~0u : n <= 0 ? 0 : (1u << n) - 1;
}

struct two {
    __m512 low, high;
};

/* Up to NR of the outer dimension, which are neighbours, of elements k and, in pairs, k + 1 (`pair`: it is
 * there): two vectors, or (!both) the first alone. */
INLINE struct two column_words(const char *p, int64_t inner, int64_t count, bool pair, bool both,
                               enum packing how)
{
    __m512i low, high;
    if (how == PACK_F32) {
        low = _mm512_maskz_loadu_epi32(first_lanes(count), p);
        high = both ? _mm512_maskz_loadu_epi32(first_lanes(count - VECTOR), p + LINE) : low;
    } else {
        const __m512i firsts = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,
                                                39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32,
                                                0); /* low halves from the one, high from the other */
        __mmask32 some = first_halves(count);
        __m512i one = _mm512_maskz_loadu_epi16(some, p), none = _mm512_setzero_si512(), other = none;
        if (how == PACK_PAIRS && pair)
            other = _mm512_maskz_loadu_epi16(some, p + inner);
        __m512i a = how == PACK_PAIRS ? one : none, b = how == PACK_PAIRS ? other : one;
        low = _mm512_permutex2var_epi16(a, firsts, b);
        high =
            both ? _mm512_permutex2var_epi16(a, _mm512_add_epi16(firsts, _mm512_set1_epi16(VECTOR)), b) : low;
    }
    return (struct two){_mm512_castsi512_ps(low), _mm512_castsi512_ps(high)};
}

/* Up to 16 of the outer dimension, which are neighbours, of elements [from, end) of K, `from` even: to[word
 * of K][16]. */
INLINE void pack_columns(const struct operand *o, int64_t count, int64_t from, int64_t end, float *to,
                         enum packing how)
{
    int64_t step = how == PACK_PAIRS ? 2 : 1;
    for (int64_t k = from; k < end; k += step) {
        const char *p = o->p + k * o->inner;
        for (int64_t i = 0; i < step; i++)
            _mm_prefetch(p + (NEAR + i) * o->inner, _MM_HINT_T0);
        struct two w = column_words(p, o->inner, count, k + 1 < end, false, how);
        _mm512_store_ps(to + k / step * VECTOR, w.low);
    }
}

/* Where a strip begins: they are as even as can be, so that none is much thinner than the others. */
INLINE int64_t strip_begin(int64_t strip, int64_t m)
{
    return strip * m / ceil_div(m, MR);
}

/* From one strip to the next: a line more than there is, lest all begin in the same set of a cache. */
INLINE int64_t strip_words(int64_t depth)
{
    return (depth + 1) * VECTOR;
}

/* A strip of A where K's elements are neighbours. */
INLINE void pack_strip(const struct operand *a, int64_t m, int64_t s, int64_t k, float *strip, enum packing how)
{
    struct operand o = outer_from(a, strip_begin(s, m));
    pack_rows(&o, strip_begin(s + 1, m) - strip_begin(s, m), k, strip, VECTOR, how);
}

/* All strips where a strip's elements are: a few of K at a time, since a line is of several strips. */
INLINE void pack_strips(const struct operand *a, int64_t m, int64_t k, int64_t depth, float *to,
                        enum packing how)
{
    for (int64_t from = 0; from < k; from += NEAR)
        for (int64_t s = 0; s < ceil_div(m, MR); s++) {
            int64_t i = strip_begin(s, m), count = strip_begin(s + 1, m) - i;
            struct operand o = outer_from(a, i);
            pack_columns(&o, count, from, min64(k, from + NEAR), to + s * strip_words(depth), how);
        }
}

/* A panel of B where K's elements are neighbours. */
INLINE void pack_b(const struct operand *b, int64_t n, int64_t k, float *to, enum packing how)
{
    for (int half = 0; half < 2; half++) {
        struct operand o = outer_from(b, half * VECTOR);
        pack_rows(&o, min64(VECTOR, n - half * VECTOR), k, to + half * VECTOR, NR, how);
    }
}

/* ---- multiplying ---- */

/* A piece of C, as it is stored. */
struct corner {
    char *p;
    int64_t ld; /* bytes */
    bool add;   /* to what is there; f32 */
    bool bf16;
    __mmask16 columns[2];
};

INLINE void store_row(const struct corner *c, char *row, __m512 sum, int half)
{
    __mmask16 some = c->columns[half];
    if (c->bf16) {
        _mm256_mask_storeu_epi16((uint16_t *)row + half * VECTOR, some, (__m256i)_mm512_cvtneps_pbh(sum));
        return;
    }
    float *to = (float *)row + half * VECTOR;
    if (c->add)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(some, to));
    _mm512_mask_storeu_ps(to, some, sum);
}

INLINE __m512 multiply_add(__m512 a, __m512 b, __m512 sum, enum packing how)
{
    return how == PACK_PAIRS ? _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b) : _mm512_fmadd_ps(a, b, sum);
}

/* A panel of B whose columns are neighbours in memory, as it lies there; n columns, k elements of K. */
struct lying {
    struct operand b;
    int64_t n, k;
};

/* Word k of each column, which is packed on the way. */
INLINE struct two pack_word(const struct lying *x, int64_t k, float *to, enum packing how)
{
    const int64_t step = how == PACK_PAIRS ? 2 : 1;
    const char *p = x->b.p + k * step * x->b.inner;
    struct two w = column_words(p, x->b.inner, x->n, k * step + 1 < x->k, true, how);
    for (int64_t i = 0; i < step; i++) {
        const char *soon = p + (SOON * step + i) * x->b.inner;
        _mm_prefetch(soon, _MM_HINT_T0);
        if (how == PACK_F32)
            _mm_prefetch(soon + LINE, _MM_HINT_T0);
    }
    _mm512_store_ps(to, w.low);
    _mm512_store_ps(to + VECTOR, w.high);
    return w;
}

/* Rows [from, end) of C. They are asked for little by little: what waits for memory keeps the few places of
 * the first cache's misses, and operands that come from the second one would wait for those. */
INLINE void ask_sums(const struct corner *c, int64_t from, int64_t end)
{
    for (const char *row = c->p + from * c->ld; from < end; from++, row += c->ld) {
        __builtin_prefetch(row, 1);
        __builtin_prefetch(row + LINE, 1);
    }
}

/* `packs`: B is as it lies, and packed into b on the way; else it is in b. */
INLINE void multiply(const float *a, float *b, int64_t depth, const struct corner *c, struct ahead *next,
                     const struct lying *lies, const int rows, const bool packs, enum packing how)
{
    __m512 sum[MR][2];
    int64_t asked = 0, each = ceil_div(rows * EACH, depth);
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int64_t k = 0; k < depth;) {
        look_ahead(next);
        ask_sums(c, asked, min64(rows, asked + each));
        asked += each;
#pragma GCC unroll 2
        for (int64_t end = min64(depth, k + EACH); k < end; k++) {
            struct two x = packs
                               ? pack_word(lies, k, b + k * NR, how)
                               : (struct two){_mm512_load_ps(b + k * NR), _mm512_load_ps(b + k * NR + VECTOR)};
#pragma GCC unroll 14
            for (int i = 0; i < rows; i++) {
                __m512 y = _mm512_set1_ps(a[k * VECTOR + i]);
                sum[i][0] = multiply_add(y, x.low, sum[i][0], how);
                sum[i][1] = multiply_add(y, x.high, sum[i][1], how);
            }
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
        store_row(c, c->p + i * c->ld, sum[i][0], 0);
        store_row(c, c->p + i * c->ld, sum[i][1], 1);
    }
}

/* A loop for each number of rows of a strip: all of its sums must be registers. */
#define EACH_STRIP(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define STRIP(r)                                                                                               \
    case r:                                                                                                    \
        multiply(a, b, depth, c, next, lies, r, packs, how);                                                   \
        break;
#define MULTIPLY(name, PACKS, HOW)                                                                             \
    AVX512 static void name(const float *a, float *b, int64_t depth, const struct corner *c,                   \
                            struct ahead *next, const struct lying *lies, int64_t rows)                        \
    {                                                                                                          \
        const bool packs = PACKS;                                                                              \
        const enum packing how = HOW;                                                                          \
        switch (rows) {                                                                                        \
            EACH_STRIP(STRIP)                                                                                  \
        }                                                                                                      \
    }
MULTIPLY(multiply_f32, false, PACK_F32)
MULTIPLY(multiply_pairs, false, PACK_PAIRS)
MULTIPLY(pack_multiply_f32, true, PACK_F32)
MULTIPLY(pack_multiply_pairs, true, PACK_PAIRS)
MULTIPLY(pack_multiply_widened, true, PACK_WIDENED)

INLINE void multiply_strip(const float *a, float *b, int64_t depth, const struct corner *c, struct ahead *next,
                           const struct lying *lies, int64_t rows, enum packing how)
{
    if (!lies)
        (how == PACK_PAIRS ? multiply_pairs : multiply_f32)(a, b, depth, c, next, lies, rows);
    else if (how == PACK_PAIRS)
        pack_multiply_pairs(a, b, depth, c, next, lies, rows);
    else
        (how == PACK_F32 ? pack_multiply_f32 : pack_multiply_widened)(a, b, depth, c, next, lies, rows);
}

/* What is packed at once: m rows of A and n columns of B, by at most WHOLE words of K. */
struct slab {
    struct operand a, b;
    int64_t m, n, k;
};

INLINE struct slab slab_of(const struct matmul *p, const struct tile *t, int64_t k, enum packing how)
{
    int64_t bytes = (int64_t)type_bytes(p->in);
    struct slab x = {.a = {p->a, (p->ta ? 1 : p->lda) * bytes, (p->ta ? p->lda : 1) * bytes, bytes},
                     .b = {p->b, (p->tb ? p->ldb : 1) * bytes, (p->tb ? 1 : p->ldb) * bytes, bytes},
                     .m = t->m,
                     .n = t->n,
                     .k = min64(block_depth(p->k, how), p->k - k)};
    x.a.p += t->i * x.a.outer + k * x.a.inner;
    x.b.p += t->j * x.b.outer + k * x.b.inner;
    return x;
}

/* What is asked for while panel j multiplies, in so many calls. */
INLINE void plan_ahead(struct ahead *h, const struct slab *x, const struct slab *next, int64_t j, int64_t calls)
{
    int64_t late = x->n - max64(NR, x->n / 4);
    h->panel = fetch_of(&x->b, j + NR, min64(NR, x->n - j - NR), x->k, calls);
    if (next->k > 0 && !h->next_a.p && j >= late) {
        calls *= ceil_div(x->n - j, NR);
        h->next_panel = fetch_of(&next->b, 0, min64(NR, next->n), next->k, calls);
        h->next_a =
            fetch_of(&next->a, 0, along_k(&next->a) ? strip_begin(1, next->m) : next->m, next->k, calls);
    }
}

/* C (+)= A·B; `next` is the block behind it, or that of the next tile, or has k = 0. */
INLINE void block(const struct slab *x, const struct slab *next, struct corner c, enum packing how)
{
    int64_t depth = how == PACK_PAIRS ? (x->k + 1) / 2 : x->k, strips = ceil_div(x->m, MR);
    int64_t calls = ceil_div(depth, EACH); /* a strip */
    float *as = scratch(SCRATCH_A, strips * strip_words(depth)), *bs = scratch(SCRATCH_B, depth * NR);
    struct ahead h = {0};
    if (!along_k(&x->a))
        pack_strips(&x->a, x->m, x->k, depth, as, how);
    for (int64_t j = 0; j < x->n; j += NR) {
        struct lying lies = {outer_from(&x->b, j), min64(NR, x->n - j), x->k};
        struct corner to = c;
        to.columns[0] = first_lanes(lies.n);
        to.columns[1] = first_lanes(lies.n - VECTOR);
        plan_ahead(&h, x, next, j, calls * strips);
        if (along_k(&x->b))
            pack_b(&lies.b, lies.n, x->k, bs, how);
        for (int64_t s = 0; s < strips; s++) {
            int64_t i = strip_begin(s, x->m), end = strip_begin(s + 1, x->m);
            float *strip = as + s * strip_words(depth);
            if (j == 0 && along_k(&x->a)) {
                pack_strip(&x->a, x->m, s, x->k, strip, how);
                h.strip = fetch_of(&x->a, end, min64(strip_begin(s + 2, x->m), x->m) - end, x->k, calls);
            }
            to.p = c.p + i * c.ld + j * (c.bf16 ? 2 : 4);
            multiply_strip(strip, bs, depth, &to, &h, s == 0 && !along_k(&x->b) ? &lies : NULL, end - i, how);
        }
    }
}

/* A bf16 C that is summed in several blocks, or added to, is summed in f32 and rounded once. */
INLINE void tile(const struct matmul *p, const struct tile *t, const struct product_tile *soon,
                 enum packing how)
{
    int64_t out = (int64_t)type_bytes(p->out), each = block_depth(p->k, how);
    bool apart = p->out == BF16 && (how != PACK_PAIRS || each < p->k || p->beta != 0);
    struct corner c = {
        .p = (char *)p->c + (t->i * p->ldc + t->j) * out, .ld = p->ldc * out, .bf16 = p->out == BF16};
    if (apart)
        c = (struct corner){.p = (char *)scratch(SCRATCH_C, t->m * t->n), .ld = t->n * (int64_t)sizeof(float)};
    for (int64_t r = 0; apart && p->beta != 0 && r < t->m; r++)
        widen((float *)(c.p + r * c.ld), at(p->c, (t->i + r) * p->ldc + t->j, BF16), t->n);
    for (int64_t k = 0; k < p->k; k += each) {
        struct slab x = slab_of(p, t, k, how), next = {0};
        if (k + each < p->k)
            next = slab_of(p, t, k + each, how);
        else if (soon->product)
            next = slab_of(soon->product, &soon->tile, 0, how);
        c.add = k > 0 || p->beta != 0;
        block(&x, &next, c, how);
    }
    for (int64_t r = 0; apart && r < t->m; r++)
        narrow(at(p->c, (t->i + r) * p->ldc + t->j, BF16), (float *)(c.p + r * c.ld), t->n);
}

AVX512 static void tile_f32(const struct matmul *p, const struct tile *t, const struct product_tile *soon)
{
    tile(p, t, soon, PACK_F32);
}
AVX512 static void tile_pairs(const struct matmul *p, const struct tile *t, const struct product_tile *soon)
{
    tile(p, t, soon, PACK_PAIRS);
}
AVX512 static void tile_widened(const struct matmul *p, const struct tile *t, const struct product_tile *soon)
{
    tile(p, t, soon, PACK_WIDENED);
}

/* Loads through masks are not watched. */
static void look(const struct matmul *p, const struct tile *t)
{
    fence_look(at(p->a, p->ta ? t->i : t->i * p->lda, p->in), p->ta ? p->k : t->m,
               (size_t)(p->ta ? t->m : p->k) * type_bytes(p->in), (size_t)p->lda * type_bytes(p->in));
    fence_look(at(p->b, p->tb ? t->j * p->ldb : t->j, p->in), p->tb ? t->n : p->k,
               (size_t)(p->tb ? p->k : t->n) * type_bytes(p->in), (size_t)p->ldb * type_bytes(p->in));
    fence_look(at(p->c, t->i * p->ldc + t->j, p->out), t->m, (size_t)t->n * type_bytes(p->out),
               (size_t)p->ldc * type_bytes(p->out));
}

void matmul_words(const struct matmul *p, const struct tile *t, const struct product_tile *soon,
                  enum packing how)
{
    look(p, t);
    (how == PACK_F32 ? tile_f32 : how == PACK_PAIRS ? tile_pairs : tile_widened)(p, t, soon);
}

/* ---- an operand of attention's products ---- */

AVX512 void pairs_columns(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    fence_look(x, rows, (size_t)dim * 2, (size_t)ld * 2);
    for (int64_t c = 0; c < width; c += VECTOR) {
        struct operand o = {(const char *)(x + c * ld), 2 * ld, 2, 2};
        pack_rows(&o, rows - c, dim, to + c, width, PACK_PAIRS);
    }
}
#else
void pairs_columns(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
}

void matmul_words(const struct matmul *p, const struct tile *t, const struct product_tile *soon,
                  enum packing how)
{
}

int64_t matmul_words_rows(const struct matmul *p, enum packing how)
{
    return 0;
}
#endif
