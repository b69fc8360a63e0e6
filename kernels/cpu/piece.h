/* SPDX-License-Identifier: MIT */
/* Row operations compute in f32, whatever the tensors' types: load() and store() of ../number.h convert in
 * registers. A loop is written once, as a LOOP over a type T, and compiled for each type by BY_TYPE in a
 * HOT function:
 *
 *     LOOP void twice(void *y, const void *x, int64_t n, enum type T) { … store(y, i, T, 2 * load(x, i, T)) … }
 *     HOT static void twice_row(…) { BY_TYPE(p->type, twice(y, x, n, T)); }
 */
#ifndef KERNELS_CPU_PIECE_H
#define KERNELS_CPU_PIECE_H

#include <math.h>

#include "../hot.h"
#include "../number.h"

#define BY_TYPE(which, ...)                                                                                    \
    do {                                                                                                       \
        if ((which) == F32) {                                                                                  \
            const enum type T = F32;                                                                           \
            __VA_ARGS__;                                                                                       \
        } else {                                                                                               \
            const enum type T = BF16;                                                                          \
            __VA_ARGS__;                                                                                       \
        }                                                                                                      \
    } while (0)

enum {
    CHUNK = 1024,      /* elements that are summed in f32, before they meet in f64 */
    WORTH = 16 * 1024, /* elements that pay for waking the threads */
};

/* Rows of a matrix product's operand. */
void widen(float *dst, const uint16_t *src, int64_t n);
void narrow(uint16_t *dst, const float *src, int64_t n);

/* Memory of the calling thread, at least `count` floats, aligned; it keeps its contents until a larger request
 * of the same slot. Never freed. */
enum { SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_D, SCRATCH_E, SCRATCH_F, SCRATCH_SLOTS };
float *scratch(int slot, int64_t count);

/* sum += x, and y = by·x. */
LOOP void add_to(float *sum, const void *x, int64_t n, enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += load(x, i, T);
}
LOOP void scale_to(void *y, const void *x, float by, int64_t n, enum type to, enum type from)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        store(y, i, to, by * load(x, i, from));
}

float max_of(const float *x, int64_t n); /* NaNs do not count; -inf when n is 0 */
float sum_exp(const float *x, float shift, int64_t n);
float dot_of(const float *x, const float *y, int64_t n);

/* e^x to 2 ulp in a loop that the compiler can vectorise: 0 below -86.9, infinity above 88.7, NaN for NaN.
 * x = n·ln 2 + r with |r| <= ln 2/2, so e^x = 2^n·e^r: the power is made of bits, e^r = 1 + r + r²·p(r) is a
 * polynomial (Cephes). ln 2 comes in two parts, 0.693359375 - 2.1219444e-4, so that n·ln 2 loses nothing. */
LOOP float exp_fast(float x)
{
    const float magic = 0x1.8p23f; /* adding it rounds to an integer, which then lies in the low bits */
    float c = x < -87 ? -87 : x > 89 ? 89 : x, t = c * 1.44269504f + magic, n = t - magic, p;
    float r = c - n * 0.693359375f + n * 2.12194440e-4f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f000000; /* 2^(n-1): 2^128 would not fit */
    memcpy(&t, &bits, sizeof t);
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r * r + r + 1) * t * 2;
    p = x < -86.9f ? 0 : p;
    return x > 88.72283f ? INFINITY : p;
}

LOOP float sigmoid_fast(float x)
{
    return 1 / (1 + exp_fast(-x));
}

#endif
