/* SPDX-License-Identifier: MIT */
/* Elements of a tensor as f32, whatever their type. */
#ifndef KERNELS_NUMBER_H
#define KERNELS_NUMBER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ops.h"

static inline float bf16_to_float(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Rounds to nearest even. A NaN stays one: the plain rounding could carry its last bits into infinity. */
static inline uint16_t bf16_from_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, quiet = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

static inline float load(const void *p, int64_t i, enum type type)
{
    return type == F32 ? ((const float *)p)[i] : bf16_to_float(((const uint16_t *)p)[i]);
}

static inline void store(void *p, int64_t i, enum type type, float value)
{
    if (type == F32)
        ((float *)p)[i] = value;
    else
        ((uint16_t *)p)[i] = bf16_from_float(value);
}

/* The address of element i. */
static inline void *at(const void *p, int64_t i, enum type type)
{
    return (char *)(uintptr_t)p + i * (int64_t)type_bytes(type);
}

#endif
