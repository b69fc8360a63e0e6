/* SPDX-License-Identifier: MIT */
/* Products of operands that lie in the caches. A library packs both operands of every product; attention, whose
 * blocks are used again and again as they lie, has none of that here. */
#ifndef KERNELS_CPU_MICRO_H
#define KERNELS_CPU_MICRO_H

#include <stdbool.h>
#include <stdint.h>

enum { MICRO_ROWS = 4, MICRO_COLUMNS = 16 };

/* C[m,n] = A·B, added to C if `add`. Element (i,k) of A is a[i·row + k·step], so that A may be transposed; B is
 * [k,n], and n a multiple of MICRO_COLUMNS. C has room for m rounded up to MICRO_ROWS: what is written into the
 * rows from m on means nothing. Each element is summed in order of k, one by one. */
struct micro {
    int64_t m, n, k;
    const float *a;
    int64_t row, step;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    bool add;
};
void micro_product(const struct micro *p);

#endif
