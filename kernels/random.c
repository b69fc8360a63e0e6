/* SPDX-License-Identifier: MIT */
#include "random.h"

#include <math.h>

#include "base/num.h"
#include "hot.h"
#include "number.h"

enum { BLOCKS = 64 }; /* of four numbers, made at a time */

/* Philox-4x32-10 (Salmon et al. 2011): four random words for each of the counters first .. first+BLOCKS-1. */
LOOP void philox(uint64_t seed, uint64_t first, uint32_t word[static 4][BLOCKS])
{
#pragma omp simd
    for (int i = 0; i < BLOCKS; i++) {
        uint64_t counter = first + (uint64_t)i;
        uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
            uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
            c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)b;
            c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)a;
        }
        word[0][i] = c0, word[1][i] = c1, word[2][i] = c2, word[3][i] = c3;
    }
}

/* ln x of a normal x > 0. x = 2^e·m with m in [1/√2, √2], and ln m = 2·artanh(s) = 2·(s + s³/3 + s⁵/5 + …) of
 * s = (m-1)/(m+1), |s| <= 0.172: the first term left out is below 2^-56 of the sum. */
LOOP double log_of(double x)
{
    uint64_t bits, mantissa;
    memcpy(&bits, &x, sizeof bits);
    bits -= 0x3fe6a09e667f3bcd; /* 1/√2: what is left above bit 52 is e */
    double e = (double)(int32_t)((int64_t)bits >> 52), m;
    mantissa = (bits & 0xfffffffffffff) + 0x3fe6a09e667f3bcd;
    memcpy(&m, &mantissa, sizeof m);
    double s = (m - 1) / (m + 1), z = s * s, p = 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    return e * M_LN2 + 2 * (s + s * z * p);
}

/* Cosine and sine of `turn` turns, a multiple of 2^-32 below 1: the nearest quarter q is taken off,
 * exactly, and the rest, at most an eighth of a turn, goes into the series of both. */
LOOP void circle(double turn, double *cosine, double *sine)
{
    int32_t q = (int32_t)(4 * turn + 0.5);
    double x = 2 * M_PI * (turn - 0.25 * q), z = x * x;
    double c = 1.0 / 20922789888000, s = -1.0 / 1307674368000;
    c = c * z - 1.0 / 87178291200, s = s * z + 1.0 / 6227020800;
    c = c * z + 1.0 / 479001600, s = s * z - 1.0 / 39916800;
    c = c * z - 1.0 / 3628800, s = s * z + 1.0 / 362880;
    c = c * z + 1.0 / 40320, s = s * z - 1.0 / 5040;
    c = c * z - 1.0 / 720, s = s * z + 1.0 / 120;
    c = c * z + 1.0 / 24, s = s * z - 1.0 / 6;
    c = c * z - 1.0 / 2, s = x * (s * z + 1);
    c = c * z + 1;
    double a = q & 1 ? -s : c, b = q & 1 ? c : s;
    *cosine = q & 2 ? -a : a;
    *sine = q & 2 ? -b : b;
}

/* Numbers 4·first .. of BLOCKS blocks, by Box and Muller's method. In double, and in our own series, which
 * every machine computes to the same bits. */
HOT static void normals(uint64_t seed, uint64_t first, double out[static 4 * BLOCKS])
{
    uint32_t word[4][BLOCKS];
    philox(seed, first, word);
    for (int pair = 0; pair < 4; pair += 2)
#pragma omp simd
        for (int i = 0; i < BLOCKS; i++) {
            double radius = sqrt(-2 * log_of((word[pair][i] + 0.5) * 0x1p-32)), cosine, sine;
            circle(word[pair + 1][i] * 0x1p-32, &cosine, &sine);
            out[4 * i + pair] = radius * cosine;
            out[4 * i + pair + 1] = radius * sine;
        }
}

void fill_row(const struct fill_normal *p, int64_t r)
{
    uint64_t first = (uint64_t)(p->first + r * p->stride);
    double normal[4 * BLOCKS];
    for (int64_t c = 0, n; c < p->width; c += n) {
        int64_t skip = (int64_t)((first + (uint64_t)c) % 4);
        n = min64(4 * BLOCKS - skip, p->width - c);
        if (p->std != 0)
            normals(p->seed, (first + (uint64_t)c) / 4, normal);
        for (int64_t i = 0; i < n; i++)
            store(p->x, r * p->ldx + c + i, p->type,
                  p->std != 0 ? (float)(p->mean + p->std * normal[skip + i]) : p->mean);
    }
}
