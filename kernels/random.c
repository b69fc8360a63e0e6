/* SPDX-License-Identifier: MIT */
#include "random.h"

#include <math.h>

#include "number.h"

/* Philox-4x32-10: four random words for one counter. */
static void philox(uint64_t seed, uint64_t counter, uint32_t word[static 4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

/* Numbers 4·block .. 4·block+3. In double, so that the last bits of a libm do not reach the float. */
static void normals(uint64_t seed, uint64_t block, double out[static 4])
{
    uint32_t word[4];
    philox(seed, block, word);
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * log((word[i] + 0.5) * 0x1p-32)), angle = 2 * M_PI * 0x1p-32 * word[i + 1];
        out[i] = radius * cos(angle);
        out[i + 1] = radius * sin(angle);
    }
}

void fill_row(const struct fill_normal *p, int64_t r)
{
    uint64_t first = (uint64_t)(p->first + r * p->stride);
    double normal[4] = {0};
    for (int64_t c = 0; c < p->width; c++) {
        uint64_t i = first + (uint64_t)c;
        if (p->std != 0 && (c == 0 || i % 4 == 0))
            normals(p->seed, i / 4, normal);
        store(p->x, r * p->ldx + c, p->type, p->std != 0 ? (float)(p->mean + p->std * normal[i % 4]) : p->mean);
    }
}
