/* SPDX-License-Identifier: MIT */
/* Operands of attention as pairs of bf16, on x86 processors that multiply those. */
#include "attention.h"

#ifdef __x86_64__
#include <immintrin.h>

#include "base/fence.h"
#include "piece.h"

#define PAIRS  __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define INLINE static inline __attribute__((always_inline)) PAIRS

enum { VECTOR = 16, /* f32, or words */ HALVES = 32 /* bf16 */ };

/* Elements [c, c + HALVES) of a row of dim. */
INLINE __m512i row_part(const uint16_t *row, int64_t c, int64_t dim)
{
    int64_t left = dim - c;
    return _mm512_maskz_loadu_epi16(left >= HALVES ? ~0u : left <= 0 ? 0 : (1u << left) - 1, row + c);
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

/* HALVES elements, rounded. */
INLINE __m512i rounded(const float *x)
{
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + VECTOR), _mm512_loadu_ps(x));
}

/* Loads through masks are not watched. */
static void look(const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    fence_look(x, rows, (size_t)dim * sizeof *x, (size_t)ld * sizeof *x);
}

PAIRS void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    look(x, ld, rows, dim);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t w = 0; w < width; w += VECTOR)
            _mm512_mask_storeu_epi32(to + r * width + w, width - w >= VECTOR ? 0xffff : 0xff,
                                     row_part(x + r * ld, 2 * w, dim));
}

PAIRS void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
    look(x, ld, rows, dim);
    for (int64_t r = 0; r < rows; r += 2)
        for (int64_t c = 0; c < width; c += HALVES) {
            const uint16_t *row = x + r * ld;
            __m512i next = r + 1 < rows ? row_part(row + ld, c, dim) : _mm512_setzero_si512();
            store_words(to + r / 2 * width + c, row_part(row, c, dim), next, c + VECTOR < width);
        }
}

PAIRS void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, int64_t rows,
                     int64_t dim)
{
    look(y, ld, rows, dim);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < dim; c += VECTOR) {
            __m512 v = _mm512_loadu_ps(x + r * width + c);
            int64_t left = dim - c;
            v = by ? _mm512_mul_ps(v, _mm512_set1_ps(by[r])) : v;
            _mm256_mask_storeu_epi16(y + r * ld + c, left >= VECTOR ? 0xffff : (1u << left) - 1,
                                     (__m256i)_mm512_cvtneps_pbh(v));
        }
}

/* Words go where scores have been read: of columns from c on, those of keys [i, i + 2) into row i / 2. */
PAIRS void pairs_powers(float *s, struct sight of, float by, const float *shift, float *sum)
{
    for (int64_t c = 0; c < STRIP; c += LANES) {
        float lane[LANES], e[2][LANES];
        for (int l = 0; l < LANES; l++)
            lane[l] = sum[c + l];
        for (int64_t i = 0; i < min64(of.keys, of.square + c + LANES); i += 2) {
            for (int r = 0; r < 2; r++)
                for (int l = 0; l < LANES; l++) {
                    e[r][l] = exp2_fast(by * s[(i + r) * STRIP + c + l] - shift[c + l]);
                    lane[l] += e[r][l];
                }
            store_words(s + i / 2 * STRIP + c, rounded(e[0]), rounded(e[1]), true);
        }
        for (int l = 0; l < LANES; l++)
            sum[c + l] = lane[l];
    }
}

/* Words go where scores have been read: those of columns [c, c + LANES) of a row into its columns from c / 2
 * on. */
PAIRS void pairs_gradients(const struct score_tile *t, struct sight of, float by, const float *lse,
                           const float *delta, float scale)
{
    for (int64_t c = 0; c < STRIP; c += LANES)
        for (int64_t i = 0; i < min64(of.keys, of.square + c + LANES); i += 2) {
            float p[2][LANES], d[2][LANES];
            __m512i rows[2];
            for (int r = 0; r < 2; r++) {
                float *s = t->s + (i + r) * STRIP, *dp = t->dp + (i + r) * STRIP;
#pragma omp simd
                for (int l = 0; l < LANES; l++) {
                    p[r][l] = exp2_fast(by * s[c + l] - lse[c + l]);
                    d[r][l] = p[r][l] * (dp[c + l] - delta[c + l]) * scale;
                }
                rows[r] = rounded(d[r]);
                _mm512_storeu_si512(s + c / 2, rounded(p[r]));
                _mm512_storeu_si512(dp + c / 2, rows[r]);
            }
            store_words(t->down + i / 2 * STRIP + c, rows[0], rows[1], true);
        }
}
#else
void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
}
void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim)
{
}
void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, int64_t rows,
               int64_t dim)
{
}
void pairs_powers(float *s, struct sight of, float by, const float *shift, float *sum)
{
}
void pairs_gradients(const struct score_tile *t, struct sight of, float by, const float *lse,
                     const float *delta, float scale)
{
}
#endif
