/* SPDX-License-Identifier: MIT */
/* A tile of C, MICRO_ROWS times some vectors, stays in registers while k passes: a vector of B is read for four
 * multiply-adds, an element of A for as many as there are vectors. The vectors are the widest that the
 * processor has, in the compilers' vector types: of plain loops the compiler would not keep the tile in
 * registers. */
#include "micro.h"

#include "../hot.h"
#include "base/num.h"

/* The rows of A that a tile reads: those beyond the last are the last again. */
struct rows {
    const float *at[MICRO_ROWS];
};

/* product_N: all of C in tiles of at most `most` vectors of N floats, all rows of a column of tiles before the
 * next, so that the column of B is read from near. */
#define PRODUCT(N)                                                                                             \
    typedef float vector_##N __attribute__((vector_size(4 * N), aligned(4), may_alias));                       \
    LOOP void tile_##N(const struct micro *p, const struct rows *a, const float *b, float *c, const int count) \
    {                                                                                                          \
        vector_##N sum[MICRO_ROWS][4];                                                                         \
        int64_t ldb = p->ldb, ldc = p->ldc, step = p->step, at = 0;                                            \
        for (int r = 0; r < MICRO_ROWS; r++)                                                                   \
            for (int v = 0; v < count; v++)                                                                    \
                sum[r][v] = p->add ? *(vector_##N *)(c + r * ldc + v * N) : (vector_##N){0};                   \
        for (int64_t k = 0; k < p->k; k++, at += step, b += ldb)                                               \
            for (int v = 0; v < count; v++) {                                                                  \
                vector_##N x = *(const vector_##N *)(b + v * N);                                               \
                for (int r = 0; r < MICRO_ROWS; r++)                                                           \
                    sum[r][v] += a->at[r][at] * x;                                                             \
            }                                                                                                  \
        for (int r = 0; r < MICRO_ROWS; r++)                                                                   \
            for (int v = 0; v < count; v++)                                                                    \
                *(vector_##N *)(c + r * ldc + v * N) = sum[r][v];                                              \
    }                                                                                                          \
    LOOP void column_##N(const struct micro *p, int64_t j, const int count)                                    \
    {                                                                                                          \
        for (int64_t i = 0; i < p->m; i += MICRO_ROWS) {                                                       \
            struct rows a = rows_of(p, i);                                                                     \
            tile_##N(p, &a, p->b + j, p->c + i * p->ldc + j, count);                                           \
        }                                                                                                      \
    }                                                                                                          \
    LOOP void product_##N(const struct micro *p, const int most)                                               \
    {                                                                                                          \
        int64_t j = 0;                                                                                         \
        for (; j + most * N <= p->n; j += most * N)                                                            \
            column_##N(p, j, most);                                                                            \
        int64_t left = (p->n - j) / N;                                                                         \
        if (most > 1 && left == 1)                                                                             \
            column_##N(p, j, 1);                                                                               \
        else if (most > 2 && left == 2)                                                                        \
            column_##N(p, j, 2);                                                                               \
        else if (most > 3 && left == 3)                                                                        \
            column_##N(p, j, 3);                                                                               \
    }

LOOP struct rows rows_of(const struct micro *p, int64_t i)
{
    struct rows a;
    for (int r = 0; r < MICRO_ROWS; r++)
        a.at[r] = p->a + min64(i + r, p->m - 1) * p->row;
    return a;
}

PRODUCT(4)
#ifdef HOT_LEVELS
PRODUCT(8)
PRODUCT(16)

__attribute__((target("arch=x86-64-v4"))) static void product_v4(const struct micro *p)
{
    product_16(p, 4);
}
__attribute__((target("arch=x86-64-v3"))) static void product_v3(const struct micro *p)
{
    product_8(p, 2);
}
#endif

void micro_product(const struct micro *p)
{
    if (p->m <= 0)
        return;
#ifdef HOT_LEVELS
    if (__builtin_cpu_supports("x86-64-v4"))
        product_v4(p);
    else if (__builtin_cpu_supports("x86-64-v3"))
        product_v3(p);
    else
#endif
        product_4(p, 2);
}
