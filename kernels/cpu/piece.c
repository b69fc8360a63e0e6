/* SPDX-License-Identifier: MIT */
#include "lanes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/num.h"

HOT void widen(float *restrict dst, const uint16_t *restrict src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dst[i] = bf16_to_f32(src[i]);
}

HOT void narrow(uint16_t *restrict dst, const float *restrict src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dst[i] = f32_to_bf16(src[i]);
}

/* x = the larger of both, x where y is NaN. */
LOOP void larger_of(float *x, const float *y, int n)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        x[i] = y[i] > x[i] ? y[i] : x[i];
}

/* In lanes: the compiler may not reorder a maximum that ignores NaNs. So many that none waits for itself. */
HOT float max_of(const float *x, int64_t n)
{
    enum { MANY = 4 * LANES };
    float lane[MANY], max = -INFINITY;
    int64_t i = 0;
    for (int l = 0; l < MANY; l++)
        lane[l] = -INFINITY;
    for (; i + MANY <= n; i += MANY)
        larger_of(lane, x + i, MANY);
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    larger_of(lane, lane + MANY / 2, MANY / 2);
    larger_of(lane, lane + MANY / 4, MANY / 4);
    larger_of(lane, lane + MANY / 8, MANY / 8);
    larger_of(lane, lane + MANY / 16, MANY / 16);
    for (int l = 0; l < MANY / 16; l++)
        max = lane[l] > max ? lane[l] : max;
    return max;
}

HOT float sum_exp(const float *x, float shift, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += exp_fast(x[i] - shift);
    return sum;
}

HOT float dot_of(const float *x, const float *y, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

bool has_narrow(void)
{
#ifdef HOT_LEVELS
    static int known; /* 1 no, 2 yes */
    const char *way = known ? NULL : getenv("MOEKIT_BF16");
    if (!known)
        known = 1 + (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("x86-64-v4") &&
                     !(way && strcmp(way, "convert") == 0));
    return known == 2;
#else
    return false;
#endif
}

float *scratch(int slot, int64_t count)
{
    static _Thread_local struct {
        float *p;
        int64_t count;
    } have[SCRATCH_SLOTS];
    if (!have[slot].p || have[slot].count < count) {
        free(have[slot].p);
        have[slot].count = round_up(count ? count : 1, 1024);
        have[slot].p = aligned_alloc(64, (size_t)have[slot].count * sizeof(float));
        if (!have[slot].p) {
            fprintf(stderr, "out of memory\n");
            _Exit(STATUS_ENV);
        }
    }
    return have[slot].p;
}
