/* SPDX-License-Identifier: MIT */
/* Operands of attention as pairs of bf16, on x86 processors that multiply those. */
#include "attention.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <stdbool.h>

#include "base/fence.h"
#include "piece.h"

#define PAIRS  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) PAIRS

enum { VECTOR = 16, /* f32, or words */ HALVES = 32 /* bf16 */ };

INLINE __mmask32 first_halves(int64_t n)
{
    return n >= HALVES ? ~0u : n <= 0 ? 0 : (1u << n) - 1;
}

/* Elements [c, c + HALVES) of a row of dim. */
INLINE __m512i row_part(const uint16_t *row, int64_t c, int64_t dim)
{
    return _mm512_maskz_loadu_epi16(first_halves(dim - c), row + c);
}

/* Of HALVES elements of two rows, words of both: a vector of the first VECTOR, and one of the others. */
INLINE void store_words(float *to, __m512i row, __m512i next, bool both)
{
    static const uint16_t first[HALVES] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                           8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    __m512i index = _mm512_loadu_si512(first);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(row, index, next));
    index = _mm512_add_epi16(index, _mm512_set1_epi16(VECTOR));
    if (both)
        _mm512_storeu_si512(to + VECTOR, _mm512_permutex2var_epi16(row, index, next));
}

/* Loads through masks are not watched. */
static void look(const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    fence_look(x, rows, (size_t)dim * sizeof *x, (size_t)ld * sizeof *x);
}

/* Whole vectors without masks, and then what is left of a row. */

PAIRS void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    int64_t whole = dim / HALVES * VECTOR;
    look(x, ld, rows, dim);
    for (int64_t r = 0; r < rows; r++, to += width, x += ld) {
        for (int64_t w = 0; w < whole; w += VECTOR)
            _mm512_storeu_si512(to + w, _mm512_loadu_si512(x + 2 * w));
        if (whole < width)
            _mm512_mask_storeu_epi32(to + whole, width - whole >= VECTOR ? 0xffff : 0xff,
                                     row_part(x, 2 * whole, dim));
    }
}

PAIRS void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    int64_t whole = dim / HALVES * HALVES;
    look(x, ld, rows, dim);
    for (int64_t r = 0; r < rows; r += 2, to += width, x += 2 * ld) {
        bool last = r + 1 == rows;
        const uint16_t *next = last ? x : x + ld;
        for (int64_t c = 0; c < whole; c += HALVES)
            store_words(to + c, _mm512_loadu_si512(x + c),
                        last ? _mm512_setzero_si512() : _mm512_loadu_si512(next + c), true);
        if (whole < width)
            store_words(to + whole, row_part(x, whole, dim),
                        last ? _mm512_setzero_si512() : row_part(next, whole, dim), whole + VECTOR < width);
    }
}

INLINE __m512i scaled_halves(__m512 factor, __m512 v, __m512 next)
{
    return (__m512i)_mm512_cvtne2ps_pbh(factor * next, factor * v);
}

PAIRS void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, float scale,
                     int64_t rows, int64_t dim)
{
    int64_t whole = dim / HALVES * HALVES;
    look(y, ld, rows, dim);
    for (int64_t r = 0; r < rows; r++, x += width, y += ld) {
        __m512 factor = _mm512_set1_ps(by ? by[r] : scale);
        for (int64_t c = 0; c < whole; c += HALVES)
            _mm512_storeu_si512(y + c,
                                scaled_halves(factor, _mm512_loadu_ps(x + c), _mm512_loadu_ps(x + c + VECTOR)));
        if (whole < dim)
            _mm512_mask_storeu_epi16(
                y + whole, first_halves(dim - whole),
                scaled_halves(factor, _mm512_loadu_ps(x + whole),
                              _mm512_maskz_loadu_ps(whole + VECTOR < width ? 0xffff : 0, x + whole + VECTOR)));
    }
}

/* 2^x, -125 <= x <= 127, or NaN: as power_of_two(), with n added to the exponent of 2^r, and a polynomial whose
 * error, 2.8e-6, is a 700th of what rounding to bf16 may be off by. What would be smaller is 2^-125, which is
 * lost beside what sums of probabilities hold. */
INLINE __m512 power(__m512 x)
{
    const float magic = 0x1.8p23f;
    x = _mm512_max_ps(_mm512_set1_ps(-125), x); /* of a NaN the second */
    __m512 t = x + magic, r = x - (t - magic), q = r * r;
    __m512 p = 9.58285e-3f * q + (5.590642e-2f * r + 2.4024099e-1f);
    p = p * q + (6.9312419e-1f * r + 1);
    return (__m512)_mm512_add_epi32((__m512i)p, _mm512_slli_epi32((__m512i)t, 23));
}

PAIRS void pairs_dots(float *dot, const float *x, const float *y, int64_t k)
{
    for (int64_t c = 0; c < STRIP; c += VECTOR) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t i = c; i < k * STRIP; i += STRIP)
            sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_ps(x + i), (__m512bh)_mm512_loadu_ps(y + i));
        _mm512_storeu_ps(dot + c, sum);
    }
}

/* Tiles of scores, some keys times some vectors of queries, stay in registers while K passes and until they
 * have become operands: `high` keys from key i, and the queries from vector `first` on. In the square on the
 * diagonal narrow tiles are higher: a multiply-add waits for the one before it in its sum. */
enum { MOST = 16, ACROSS = STRIP / VECTOR };

INLINE void scores(__m512 (*s)[MOST][ACROSS], const struct score_product *x, const int products, int64_t i,
                   const int high, const int first)
{
    const int across = ACROSS - first;
#pragma GCC unroll 2
    for (int j = 0; j < products; j++)
#pragma GCC unroll 16
        for (int r = 0; r < high; r++)
#pragma GCC unroll 4
            for (int v = 0; v < across; v++)
                s[j][r][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < x->k; k++)
#pragma GCC unroll 2
        for (int j = 0; j < products; j++) {
            const float *a = x[j].rows + i * x->row + k, *b = x[j].columns + k * STRIP + first * VECTOR;
#pragma GCC unroll 4
            for (int v = 0; v < across; v++) {
                __m512bh query = (__m512bh)_mm512_loadu_ps(b + v * VECTOR);
#pragma GCC unroll 16
                for (int r = 0; r < high; r++)
                    s[j][r][v] = _mm512_dpbf16_ps(s[j][r][v], (__m512bh)_mm512_set1_ps(a[r * x->row]), query);
            }
        }
    micro_errands(x->errands);
}

/* The queries of a vector that see key i. */
INLINE __mmask16 seeing(struct sight of, int64_t i, int vector)
{
    int64_t unseen = i - of.square - vector * VECTOR;
    return i >= of.keys ? 0 : unseen <= 0 ? 0xffff : (__mmask16)(0xffff << unseen);
}

/* The words of two rows. */
INLINE __m512i words_of(__m512 row, __m512 next)
{
    static const uint16_t order[HALVES] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                           8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), (__m512i)_mm512_cvtne2ps_pbh(next, row));
}

INLINE void powers_tile(float *to, struct sight of, const struct score_product *x, float by, struct softmax *c,
                        int64_t i, const int high, const int first, const bool square)
{
    __m512 s[1][MOST][ACROSS];
    scores(s, x, 1, i, high, first);
#pragma GCC unroll 4
    for (int v = 0; v < ACROSS - first; v++) {
        int at = (first + v) * VECTOR;
        __m512 sum = _mm512_loadu_ps(c->sum + at), max = _mm512_loadu_ps(c->max + at),
               weight = _mm512_loadu_ps(c->weight + at), shift = _mm512_loadu_ps(c->shift + at), e[2];
#pragma GCC unroll 16
        for (int r = 0; r < high; r++) {
            __m512 own = s[0][r][v];
            e[r % 2] = power(by * own - shift);
            if (square) {
                __mmask16 mask = seeing(of, i + r, first + v);
                own = _mm512_mask_mov_ps(max, mask, own);
                e[r % 2] = _mm512_maskz_mov_ps(mask, e[r % 2]);
            }
            max = _mm512_max_ps(own, max); /* of a NaN the second */
            sum += e[r % 2];
            if (r % 2 == 0)
                continue;
            __m512i pair = words_of(e[0], e[1]);
            weight = _mm512_dpbf16_ps(weight, (__m512bh)pair, (__m512bh)_mm512_set1_epi16(0x3f80)); /* by 1 */
            _mm512_storeu_si512(to + (i + r) / 2 * STRIP + at, pair);
        }
        _mm512_storeu_ps(c->sum + at, sum);
        _mm512_storeu_ps(c->weight + at, weight);
        _mm512_storeu_ps(c->max + at, max);
    }
}

/* TILE(high, first, square) for the tiles that `of` consists of, at i. */
#define EACH_TILE(least, TILE)                                                                                 \
    do {                                                                                                       \
        int64_t i = 0;                                                                                         \
        for (; i < min64(of.keys, of.square); i += (least))                                                    \
            TILE((least), 0, false);                                                                           \
        for (; i < min64(of.keys, of.square + GROUP); i += (least))                                            \
            TILE((least), 0, true);                                                                            \
        for (; i < min64(of.keys, of.square + 2 * GROUP); i += (least))                                        \
            TILE((least), 1, true);                                                                            \
        for (; i < min64(of.keys, of.square + 3 * GROUP); i += 2 * (least))                                    \
            TILE(2 * (least), 2, true);                                                                        \
        for (; i < of.keys; i += 4 * (least))                                                                  \
            TILE(4 * (least), 3, true);                                                                        \
    } while (0)

PAIRS void pairs_powers(float *s, struct sight of, const struct score_product *x, float by, struct softmax *c)
{
#define POWERS_TILE(high, first, square) powers_tile(s, of, x, by, c, i, high, first, square)
    EACH_TILE(4, POWERS_TILE);
}

/* Words along a row's vectors. */
INLINE void store_along(float *to, const __m512 *x, const int count)
{
    if (count % 2)
        _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x[0]));
#pragma GCC unroll 2
    for (int v = count % 2; v < count; v += 2)
        _mm512_storeu_si512(to + v * VECTOR / 2, (__m512i)_mm512_cvtne2ps_pbh(x[v + 1], x[v]));
}

INLINE void gradients_tile(const struct score_tile *t, struct sight of, const struct score_product *x, float by,
                           const float *lse, const float *delta, int64_t i, const int high, const int first,
                           const bool square)
{
    const int across = ACROSS - first;
    __m512 s[2][MOST][ACROSS];
    scores(s, x, 2, i, high, first);
#pragma GCC unroll 8
    for (int r = 0; r < high; r++) {
#pragma GCC unroll 4
        for (int v = 0; v < across; v++) {
            int at = (first + v) * VECTOR;
            __m512 p = power(by * s[0][r][v] - _mm512_loadu_ps(lse + at));
            if (square)
                p = _mm512_maskz_mov_ps(seeing(of, i + r, first + v), p);
            s[0][r][v] = p;
            s[1][r][v] = p * (s[1][r][v] - _mm512_loadu_ps(delta + at));
        }
        int64_t to = ((i + r) * STRIP + first * VECTOR) / 2;
        store_along(t->s + to, s[0][r], across);
        store_along(t->dp + to, s[1][r], across);
        if (r % 2 == 0)
            continue;
#pragma GCC unroll 4
        for (int v = 0; v < across; v++)
            _mm512_storeu_si512(t->down + (i + r) / 2 * STRIP + (first + v) * VECTOR,
                                words_of(s[1][r - 1][v], s[1][r][v]));
    }
}

PAIRS void pairs_gradients(const struct score_tile *t, struct sight of, const struct score_product *x, float by,
                           const float *lse, const float *delta)
{
#define GRADIENTS_TILE(high, first, square) gradients_tile(t, of, x, by, lse, delta, i, high, first, square)
    EACH_TILE(2, GRADIENTS_TILE);
}
#else
void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
}
void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
}
void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, float scale,
               int64_t rows, int64_t dim)
{
}
void pairs_dots(float *dot, const float *x, const float *y, int64_t k)
{
}
void pairs_powers(float *s, struct sight of, const struct score_product *x, float by, struct softmax *c)
{
}
void pairs_gradients(const struct score_tile *t, struct sight of, const struct score_product *x, float by,
                     const float *lse, const float *delta)
{
}
#endif
