/* SPDX-License-Identifier: MIT */
/* What kernels/cuda uses of CUDA's bf16, under CUDA's names, for a machine without the toolkit. */
#ifndef EMULATOR_CUDA_BF16_H
#define EMULATOR_CUDA_BF16_H

#include <string.h>

#include "cuda_runtime_api.h"

struct __align__(2) __nv_bfloat16
{
    unsigned short bits;
};
struct __align__(4) __nv_bfloat162
{
    __nv_bfloat16 x, y;
};

/* To nearest, ties to even; a NaN becomes 0x7fff, as on the device. */
static inline __nv_bfloat16 __float2bfloat16_rn(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000)
        return {0x7fff};
    return {static_cast<unsigned short>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline float __bfloat162float(__nv_bfloat16 v)
{
    uint32_t u = static_cast<uint32_t>(v.bits) << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline __nv_bfloat16 __float2bfloat16(float v)
{
    return __float2bfloat16_rn(v);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v)
{
    return {v};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v)
{
    return v.bits;
}

#endif
