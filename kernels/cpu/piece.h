/* SPDX-License-Identifier: MIT */
/* Row operations see f32, whatever the tensor's type. Work in pieces of CHUNK elements:
 * view() gives a piece as f32 (a bf16 one converted into `buf`), out() says where to write one, and put()
 * converts it back. For F32 all three only compute an address. */
#ifndef KERNELS_CPU_PIECE_H
#define KERNELS_CPU_PIECE_H

#include <math.h>

#include "../number.h"

/* Compiled once for each kind of x86 machine; the right one is picked when the program starts. The sanitizers
 * cannot run before they are set up, which is when the picking happens. Clang 14 picks wrongly between levels,
 * and lets the copies of static functions clash. Without copies the same loops are vectorised for what every
 * machine of the target has: SSE2, or NEON. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define HOT __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define HOT
#endif

enum {
    CHUNK = 1024,      /* elements in a piece */
    WORTH = 16 * 1024, /* elements that pay for waking the threads */
};

void widen(float *dst, const uint16_t *src, int64_t n);
void narrow(uint16_t *dst, const float *src, int64_t n);

static inline const float *view(const void *p, int64_t i, int64_t n, enum type type, float *buf)
{
    if (type == F32)
        return (const float *)p + i;
    widen(buf, (const uint16_t *)p + i, n);
    return buf;
}
static inline float *out(void *p, int64_t i, enum type type, float *buf)
{
    return type == F32 ? (float *)p + i : buf;
}
static inline void put(void *p, int64_t i, int64_t n, enum type type, const float *y)
{
    if (type == BF16)
        narrow((uint16_t *)p + i, y, n);
}

/* Memory of the calling thread, at least `count` floats, aligned; it keeps its contents until a larger request
 * of the same slot. Never freed. */
enum { SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_D, SCRATCH_E, SCRATCH_F, SCRATCH_SLOTS };
float *scratch(int slot, int64_t count);

/* Over one piece. */
float max_of(const float *x, int64_t n); /* NaNs do not count; -inf when n is 0 */
float sum_exp(const float *x, float shift, int64_t n);
float dot_of(const float *x, const float *y, int64_t n);

/* e^x to 2 ulp in a loop that the compiler can vectorise: 0 below -86.9, infinity above 88.7, NaN for NaN.
 * x = n·ln 2 + r with |r| <= ln 2/2, so e^x = 2^n·e^r: the power is made of bits, e^r = 1 + r + r²·p(r) is a
 * polynomial (Cephes). ln 2 comes in two parts, 0.693359375 - 2.1219444e-4, so that n·ln 2 loses nothing. */
static inline __attribute__((always_inline)) float exp_fast(float x)
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

static inline __attribute__((always_inline)) float sigmoid_fast(float x)
{
    return 1 / (1 + exp_fast(-x));
}

#endif
