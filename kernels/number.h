/* SPDX-License-Identifier: MIT */
/* Elements of a tensor as f32, whatever their type. */
#ifndef KERNELS_NUMBER_H
#define KERNELS_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#include "base/bf16.h"
#include "ops.h"

static inline float load(const void *p, int64_t i, enum type type)
{
    return type == F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
}

static inline void store(void *p, int64_t i, enum type type, float value)
{
    if (type == F32)
        ((float *)p)[i] = value;
    else
        ((uint16_t *)p)[i] = f32_to_bf16(value);
}

/* How many rows there are: what the device says, within the bound. */
static inline int64_t counted(int64_t bound, const int32_t *count)
{
    return !count || *count > bound ? bound : *count;
}

/* The address of element i. */
static inline void *at(const void *p, int64_t i, enum type type)
{
    return (char *)(uintptr_t)p + i * (int64_t)type_bytes(type);
}

#endif
