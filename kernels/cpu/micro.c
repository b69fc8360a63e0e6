/* SPDX-License-Identifier: MIT */
/* A tile of C, some rows times some vectors, stays in registers while k passes: a vector of B is read for as
 * many multiply-adds as there are rows, a word of A for as many as there are vectors. The vectors are the
 * widest that the processor has, in the compilers' vector types: of plain loops the compiler would not keep
 * the tile in registers. Tiles that are narrower than the widest have more rows: a multiply-add waits for the
 * one before it in its sum, and only as many sums as fit fill that time. */
#include "micro.h"

#include "../hot.h"
#include "base/num.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* The rows of A that a tile reads, and of which words of K: those beyond the last are the last again. */
struct rows {
    const float *at[MICRO_MOST];
    int64_t begin, end;
};

/* product_NAME: all of C in tiles of at most `most` vectors of N floats, all rows of a column of tiles before
 * the next, so that the column of B is read from near. ADD(sum, a, x): sum += a·x, a a word and x a vector. */
#define PRODUCT(NAME, N, TARGET, ADD)                                                                          \
    typedef float value_##NAME __attribute__((vector_size(4 * N)));                                            \
    typedef value_##NAME vector_##NAME __attribute__((aligned(4), may_alias));                                 \
    TARGET LOOP void tile_##NAME(const struct micro *p, const struct rows *a, const float *b, float *c,        \
                                 const int high, const int count)                                              \
    {                                                                                                          \
        value_##NAME sum[MICRO_MOST][4];                                                                       \
        const bool add = p->add;                                                                               \
        int64_t ldb = p->ldb, ldc = p->ldc, step = p->step, at = a->begin * step, end = a->end * step;         \
        _Pragma("GCC unroll 16") for (int r = 0; r < high; r++)                                                \
            _Pragma("GCC unroll 4") for (int v = 0; v < count; v++) sum[r][v] = (value_##NAME){0};             \
        do {                                                                                                   \
            _Pragma("GCC unroll 4") for (int v = 0; v < count; v++)                                            \
            {                                                                                                  \
                value_##NAME x = *(const vector_##NAME *)(b + v * N);                                          \
                _Pragma("GCC unroll 16") for (int r = 0; r < high; r++) ADD(sum[r][v], a->at[r][at], x);       \
            }                                                                                                  \
            at += step;                                                                                        \
            b += ldb;                                                                                          \
        } while (at != end);                                                                                   \
        _Pragma("GCC unroll 16") for (int r = 0; r < high; r++)                                                \
            _Pragma("GCC unroll 4") for (int v = 0; v < count; v++)                                            \
        {                                                                                                      \
            vector_##NAME *to = (vector_##NAME *)(c + r * ldc + v * N);                                        \
            if (add)                                                                                           \
                sum[r][v] += *to;                                                                              \
            *to = sum[r][v];                                                                                   \
        }                                                                                                      \
    }                                                                                                          \
    TARGET LOOP int64_t column_##NAME(const struct micro *p, int64_t i, int64_t j, const int high,             \
                                      const int count)                                                         \
    {                                                                                                          \
        for (; i + (high == MICRO_ROWS ? 1 : high) <= p->m; i += high) {                                       \
            struct rows a = rows_of(p, i, high);                                                               \
            tile_##NAME(p, &a, p->b + a.begin * p->ldb + j, p->c + i * p->ldc + j, high, count);               \
            if (p->errands)                                                                                    \
                micro_errands(p->errands);                                                                     \
        }                                                                                                      \
        return i;                                                                                              \
    }                                                                                                          \
    TARGET LOOP void product_##NAME(const struct micro *p, const int most)                                     \
    {                                                                                                          \
        int64_t j = 0;                                                                                         \
        for (; j + most * N <= p->n; j += most * N)                                                            \
            column_##NAME(p, 0, j, MICRO_ROWS, most);                                                          \
        int64_t left = (p->n - j) / N;                                                                         \
        if (most > 1 && left == 1)                                                                             \
            column_##NAME(p, N == 16 ? column_##NAME(p, 0, j, 16, 1) : 0, j, MICRO_ROWS, 1);                   \
        else if (most > 2 && left == 2)                                                                        \
            column_##NAME(p, N == 16 ? column_##NAME(p, 0, j, 8, 2) : 0, j, MICRO_ROWS, 2);                    \
        else if (most > 3 && left == 3)                                                                        \
            column_##NAME(p, 0, j, MICRO_ROWS, 3);                                                             \
    }

LOOP struct rows rows_of(const struct micro *p, int64_t i, const int high)
{
    int64_t step = i / MICRO_ROWS, last = (i + high) / MICRO_ROWS - 1;
    struct rows a = {.begin = step * p->skip, .end = p->climb ? min64(p->k, p->first + last * p->climb) : p->k};
    for (int r = 0; r < high; r++)
        a.at[r] = p->a + min64(i + r, p->m - 1) * p->row;
    return a;
}

#define MULTIPLY_ADD(sum, a, x) sum += (a) * (x)

PRODUCT(4, 4, , MULTIPLY_ADD)
#ifdef HOT_LEVELS
PRODUCT(8, 8, , MULTIPLY_ADD)
PRODUCT(16, 16, , MULTIPLY_ADD)

__attribute__((target("arch=x86-64-v4"))) static void product_v4(const struct micro *p)
{
    product_16(p, 4);
}
__attribute__((target("arch=x86-64-v3"))) static void product_v3(const struct micro *p)
{
    product_8(p, 2);
}
#endif

#ifdef __x86_64__
#define PAIRS                         __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define MULTIPLY_ADD_PAIRS(sum, a, x) sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)(x))
PRODUCT(pairs, 16, PAIRS, MULTIPLY_ADD_PAIRS)

PAIRS static void product_of_pairs(const struct micro *p)
{
    product_pairs(p, 4);
}
bool micro_has_pairs(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}
#else
static void product_of_pairs(const struct micro *p)
{
}
bool micro_has_pairs(void)
{
    return false;
}
#endif

void micro_product(const struct micro *p)
{
    if (p->m <= 0)
        return;
    if (p->pairs)
        product_of_pairs(p);
#ifdef HOT_LEVELS
    else if (__builtin_cpu_supports("x86-64-v4"))
        product_v4(p);
    else if (__builtin_cpu_supports("x86-64-v3"))
        product_v3(p);
#endif
    else
        product_4(p, 2);
}
