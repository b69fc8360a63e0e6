/* SPDX-License-Identifier: MIT */
/* What attention (attention.c) is made of, besides its products (micro.h): rows of heads, brought into the form
 * that products read, and what happens to scores between products.
 *
 * Operands are words (micro.h). In f32 a word is an element. Where the processor multiplies pairs of bf16, and
 * tensors are bf16, it is two elements, neighbours along what a product sums over; what is computed, scores and
 * sums, is f32, and rounded to bf16 where it becomes an operand. */
#ifndef KERNELS_CPU_ATTENTION_H
#define KERNELS_CPU_ATTENTION_H

#include "../ops.h"
#include "micro.h"

enum { STRIP = 64 /* queries */, GROUP = 16 };

struct head_form {
    enum type type;
    bool pairs;
    int64_t dim, wide; /* elements of a row; with zeros up to a multiple of MICRO_COLUMNS */
};

/* Words of n elements. */
static inline int64_t words(const struct head_form *f, int64_t n)
{
    return f->pairs ? (n + 1) / 2 : n;
}

/* Rows of a head as they lie in a tensor, the first at element `first`. */
struct head_rows {
    const void *p;
    int64_t first, ld, rows;
};

/* to [rows, words(wide)]: the rows, and zeros. Close together: rows that lie far apart would share few of a
 * cache's sets. */
void rows_lying(float *to, const struct head_form *f, const struct head_rows *x, int64_t rows);
/* to [words(rows), wide]: words along the rows, and zeros. In f32 the same as lying. */
void rows_stacked(float *to, const struct head_form *f, const struct head_rows *x, int64_t rows);
/* to [words(dim), STRIP]: a column for each of up to STRIP rows, and zeros. `lying`: in f32, the rows so,
 * STRIP of them. */
void rows_columns(float *to, const struct head_form *f, const struct head_rows *x, const float *lying);
/* Row r of y = by[r]·x[r], x [rows, wide] f32; by NULL: x itself. */
void rows_put(const struct head_rows *y, const struct head_form *f, const float *x, const float *by);
/* Adds to what memory is asked for, if there are rows and there is room. */
void rows_ask(struct errands *e, const struct head_form *f, const struct head_rows *x);

/* What a strip sees of a block of keys: the first `keys`, and of those before key `square` every query each.
 * Key square + i is seen by the queries from i on: in the square on the diagonal what concerns queries before
 * the last multiple of GROUP is neither written nor read. */
struct sight {
    int64_t keys, square;
};

/* Scores s [keys, STRIP] become `value` where a query does not see the key, and, with pairs, in a row that
 * makes the keys even. */
void score_hide(const struct head_form *f, float *s, struct sight of, float value);
/* max = the largest of it and of each column of s [keys, STRIP]. NaNs do not count. */
void score_maxima(float *max, const float *s, struct sight of);
/* s = 2^(by·s - shift), in columns, which are added to sum; as words along the keys, [words(keys), STRIP]. */
void score_powers(const struct head_form *f, float *s, struct sight of, float by, const float *shift,
                  float *sum);

/* Scores of a tile and their gradients [keys, STRIP], and gradients once more [words(keys), STRIP], which in
 * f32 is dp itself. */
struct score_tile {
    float *s, *dp, *down;
};
/* s = 2^(by·s - lse), the probability p, and dp = p·(dp - delta)·scale, as derived in ref/attention.c: as words
 * along the queries, words(STRIP) of each row, and down = dp as words along the keys. */
void score_gradients(const struct head_form *f, const struct score_tile *t, struct sight of, float by,
                     const float *lse, const float *delta, float scale);

/* The same for pairs (attention_pairs.c). x [rows, dim] at ld; what is beyond rows or dim is 0. */
void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim);
void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim);
void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, int64_t rows,
               int64_t dim);
void pairs_powers(float *s, struct sight of, float by, const float *shift, float *sum);
void pairs_gradients(const struct score_tile *t, struct sight of, float by, const float *lse,
                     const float *delta, float scale);

#endif
