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
/* Row r of y = by[r]·x[r], x [rows, wide] f32; by NULL: scale·x[r]. */
void rows_put(const struct head_rows *y, const struct head_form *f, const float *x, const float *by,
              float scale);
/* Adds to what memory is asked for, if there are rows and there is room. */
void rows_ask(struct errands *e, const struct head_form *f, const struct head_rows *x);

/* What a strip sees of a block of keys: the first `keys`, and of those before key `square` every query each.
 * Key square + i is seen by the queries from i on: in the square on the diagonal what concerns queries before
 * the last multiple of GROUP is neither written nor read. */
struct sight {
    int64_t keys, square;
};

/* Of each query of a strip: what its scores are relative to, in powers of two; its largest score; the sum of
 * its exponentials, and the sum of what they are rounded to where they become an operand. Outputs are divided
 * by the latter: then a probability near 1 is one, whatever scores are relative to. */
struct softmax {
    float shift[STRIP], max[STRIP], sum[STRIP], weight[STRIP];
};

/* Scores s [keys, STRIP] become `value` where a query does not see the key. */
void score_hide(float *s, struct sight of, float value);
/* max = the largest of it and of each column of s [keys, STRIP]. NaNs do not count. */
void score_maxima(float *max, const float *s, struct sight of);
/* s = 2^(by·s - shift), in columns, which are added to sum. */
void score_powers(float *s, struct sight of, float by, const float *shift, float *sum);
/* s = 2^(by·s - lse), the probability p, and dp = p·(dp - delta), as derived in ref/attention.c but for the
 * scale. */
void score_gradients(float *s, float *dp, struct sight of, float by, const float *lse, const float *delta);

/* Scores, rows · columns, of rows_lying() and rows_columns(); meanwhile it asks for memory. */
struct score_product {
    const float *rows; /* [keys, row], and zeros up to a multiple of GROUP keys */
    int64_t row, k;
    const float *columns; /* [k, STRIP] */
    struct errands *errands;
};
/* What products read of scores and their gradients: words along the queries, [keys, words(STRIP)], and along
 * the keys, [words(keys), STRIP]. In f32 these are the same. */
struct score_tile {
    float *s, *dp, *down;
};
/* The same for pairs (attention_pairs.c). x [rows, dim] at ld; what is beyond rows or dim is 0. */
void pairs_lying(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim);
void pairs_stacked(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim);
void pairs_put(uint16_t *y, int64_t ld, const float *x, int64_t width, const float *by, float scale,
               int64_t rows, int64_t dim);
/* dot[i] = the product of columns i of x and y [k, STRIP]. */
void pairs_dots(float *dot, const float *x, const float *y, int64_t k);
/* s = 2^(by·score - shift) as words along the keys, [words(keys), STRIP], what is not seen 0; sum, weight and
 * max of c follow. Where by·max exceeds shift by more than 127 the powers are wrong. */
void pairs_powers(float *s, struct sight of, const struct score_product *x, float by, struct softmax *c);
/* t of x[0], the scores, and x[1], their gradients, as in score_gradients(). */
void pairs_gradients(const struct score_tile *t, struct sight of, const struct score_product *x, float by,
                     const float *lse, const float *delta);

#endif
