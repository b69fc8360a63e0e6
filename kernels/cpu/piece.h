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
#include "base/num.h"

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
    LANES = 32,        /* numbers that the compiler keeps in registers, in an array of this length */
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

/* 2^(by·x), in a loop that the compiler can vectorise; by·x >= -127, which gives 0, and <= 127. Adding `magic`
 * rounds by·x to the integer n, which then lies in the low bits, ready to be the exponent; the rest r,
 * |r| <= 1/2, goes into 2^r = 1 + r·ln 2 + r²·p(r), p fitted for the least relative error (1.05e-7) and
 * evaluated in pairs, for a short chain. */
LOOP float power_of_two(float x, float by)
{
    const float magic = 0x1.8p23f + 127;
    float t = by * x + magic, n = t - magic, r = by * x - n, q = r * r, power;
    float p = (1.3300567e-3f * r + 9.669742e-3f) * q + (5.5505585e-2f * r + 2.4022281e-1f);
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits <<= 23;
    memcpy(&power, &bits, sizeof power);
    return (p * q + (6.9314718e-1f * r + 1)) * power;
}

/* 2^x to 2 ulp for x <= 127: 0 below -126.5, NaN for NaN. */
LOOP float exp2_fast(float x)
{
    return power_of_two(x < -127 ? -127 : x, 1);
}

/* e^x for x <= 88: 0 below -87.7, NaN for NaN. Within 3 + |x|/10 ulp where a multiply-add rounds once, else
 * 3 + |x|/2. */
LOOP float exp_fast(float x)
{
    return power_of_two(x < -88 ? -88 : x, 1.44269504f);
}

/* ln x to 2 ulp for normal x, NaN for infinities and NaN: x = 2^n·(1 + f), |f| <= 1/3, and
 * ln(1 + f) = f - f²/2 + f³·p(f), p fitted for the least relative error of the whole (5e-9). */
LOOP float log_fast(float x)
{
    const uint32_t two_thirds = 0x3f2aaaab;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits -= two_thirds;
    float n = (float)((int32_t)bits >> 23), f;
    bits = (bits & 0x7fffff) + two_thirds;
    memcpy(&f, &bits, sizeof f);
    f -= 1;
    float p = -0.12891601f * f + 0.13984467f, q = f * f;
    p = p * f - 0.12184278f;
    p = p * f + 0.14005862f;
    p = p * f - 0.16680487f;
    p = p * f + 0.20010406f;
    p = p * f - 0.24999797f;
    p = p * f + 0.33333215f;
    return n * 0.69314718f + (f + (p * (q * f) - 0.5f * q)) + (x - x);
}

LOOP float sigmoid_fast(float x)
{
    float e = exp_fast(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}

#endif
