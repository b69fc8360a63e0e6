/* SPDX-License-Identifier: MIT */
/* bfloat16: the upper half of an f32. */
#ifndef BASE_BF16_H
#define BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float bf16_to_f32(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Rounds to nearest, a tie to even; beyond the largest is infinity. A NaN stays one: plain rounding could carry
 * its last bits into infinity. No branches, so that loops over it vectorise. */
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    u = f != f ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1);
    return (uint16_t)(u >> 16);
}

#endif
