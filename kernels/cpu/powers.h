/* SPDX-License-Identifier: MIT */
/* Powers of e in pieces, each as a product of two, power · scale, which mostly goes into a multiply-add. */
#ifndef KERNELS_CPU_POWERS_H
#define KERNELS_CPU_POWERS_H

#include "lanes.h"

/* 2^(by·x), -127 <= by·x <= 128, as power_of_two() of piece.h has it, but that from 2^127.5 on all are
 * infinite. The polynomial is fitted for the least relative error: 1e-7, or 3e-6 where bf16 are near enough,
 * which is 1/700 of what they are rounded by. One multiply-add after the other: fewer than in pairs, and other
 * lanes fill the time. */
LOOP void power_parts(float *power, float *scale, const float *x, float by, enum type near)
{
    const float magic = 0x1.8p23f + 127;
    EACH_LANE
    {
        float t = by * x[l] + magic, r = by * x[l] - (t - magic), p;
        if (near == F32) {
            p = 1.3264727e-3f * r + 9.671513e-3f;
            p = p * r + 5.5507336e-2f;
            p = p * r + 0.24022242f;
            p = p * r + 0.693147f;
        } else {
            p = 9.5828529e-3f * r + 5.5906426e-2f;
            p = p * r + 0.24024099f;
            p = p * r + 0.69312418f;
        }
        power[l] = p * r + 1;
        scale[l] = of_bits(bits_of(t) << 23);
    }
}

#ifdef HOT_LEVELS
/* The same where an instruction picks one of 32 numbers: scale = 2^(n/32), which takes the polynomial three
 * degrees. Rounded to n, 32·by·x has in its lowest five bits which number of the table it is; all of them,
 * moved up to the exponent, count what it is multiplied by, and the table is less by what those five count
 * there. Relative errors of 5e-8, or 3e-5 where bf16 are near enough, 1/70 of what they are rounded by. */
LOOP void picked_parts(float *power, float *scale, const float *x, float by, enum type near)
{
    typedef int32_t ints __attribute__((vector_size(LANES * 2), aligned(4), may_alias));
    static const uint32_t parts[32] = {
        /* of 2^(i/32), the bits below the exponent, less i << 18 */
        0x00000000, 0xfffecd87, 0xfffdaac3, 0xfffc980f, 0xfffb95c2, 0xfffaa43a, 0xfff9c3d3, 0xfff8f4f0,
        0xfff837f0, 0xfff78d3a, 0xfff6f532, 0xfff67043, 0xfff5fed7, 0xfff5a15b, 0xfff5583f, 0xfff523f6,
        0xfff504f3, 0xfff4fbaf, 0xfff508a4, 0xfff52c4d, 0xfff5672a, 0xfff5b9be, 0xfff6248c, 0xfff6a81e,
        0xfff744fd, 0xfff7fbb8, 0xfff8ccdf, 0xfff9b907, 0xfffac0c7, 0xfffbe4ba, 0xfffd257d, 0xfffe83b3,
    };
    const floats low = *(const floats *)parts, high = *(const floats *)(parts + 16);
    const float magic = 0x1.8p23f + 127 * 32;
    EACH_LANE scale[l] = 32 * by * x[l] + magic;
    EACH_LANE
    {
        float r = 32 * by * x[l] - (scale[l] - magic);
        power[l] = near == F32 ? (2.345962e-4f * r + 2.1661167e-2f) * r + 1 : 2.1661167e-2f * r + 1.0000293f;
    }
    for (ints *half = (ints *)scale; half < (ints *)(scale + LANES); half++)
        *half = (*half << 18) + (ints)__builtin_shuffle(low, high, *half);
}
#else
#define picked_parts power_parts
#endif

#endif
