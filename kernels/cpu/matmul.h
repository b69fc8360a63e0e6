/* SPDX-License-Identifier: MIT */
/* Matrix products inside the cpu backend. */
#ifndef KERNELS_CPU_MATMUL_H
#define KERNELS_CPU_MATMUL_H

#include "../ops.h"

/* The part of C that begins at row i and column j. */
struct tile {
    int64_t i, j, m, n;
};

/* One tile of a bf16 product by oneDNN's own bf16 matmul; K > 0. */
void matmul_native(const struct matmul *p, const struct tile *t);

/* Our own kernel for AVX-512 (matmul_words.c). What its words are: f32, pairs of bf16 for the instructions
 * that multiply those, or f32 made of bf16. */
enum packing { PACK_F32, PACK_PAIRS, PACK_WIDENED };
/* One tile; K > 0. */
void matmul_words(const struct matmul *p, const struct tile *t, enum packing how);
/* How many rows a tile of such a product should have at most, for A's part of it to stay in the cache; 0
 * where there is no such kernel. */
int64_t matmul_words_rows(const struct matmul *p, enum packing how);

/* Row-major f32 product on the calling thread: C = alpha·op(A)·op(B) + beta·C. */
void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
             const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
