/* SPDX-License-Identifier: MIT */
/* Matrix products inside the cpu backend. */
#ifndef KERNELS_CPU_MATMUL_H
#define KERNELS_CPU_MATMUL_H

#include "../ops.h"

/* The part of C that begins at row i and column j. */
struct tile {
    int64_t i, j, m, n;
};

/* What a thread computes in one go; product NULL: nothing. */
struct product_tile {
    const struct matmul *product;
    struct tile tile;
};

/* One tile of a bf16 product by oneDNN's own bf16 matmul; K > 0. */
void matmul_native(const struct matmul *p, const struct tile *t);

/* Our own kernel for AVX-512 (matmul_words.c). What its words are: f32, pairs of bf16 for the instructions
 * that multiply those, or f32 made of bf16. */
enum packing { PACK_F32, PACK_PAIRS, PACK_WIDENED };
/* One tile; K > 0. `soon`: what the thread will probably compute next, in the same way: asked for ahead. */
void matmul_words(const struct matmul *p, const struct tile *t, const struct product_tile *soon,
                  enum packing how);
/* How many rows a tile of such a product should have at most, for A's part of it to stay in the cache; 0
 * where there is no such kernel. */
int64_t matmul_words_rows(const struct matmul *p, enum packing how);

/* Whether bf16 is multiplied by the processor's own instructions, in pairs of neighbours in K, for
 * attention. */
bool matmul_has_pairs(void);
/* to [ceil(dim/2), width] words: pairs along the rows of x [rows, dim] at ld, a column for each row and zeros
 * beyond; width at least rows, a multiple of 16. Only where there are pairs. */
void pairs_columns(float *to, int64_t width, const uint16_t *x, int64_t ld, int64_t rows, int64_t dim);

#endif
