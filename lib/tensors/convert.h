/* SPDX-License-Identifier: MIT */
/* Numbers of files to numbers of memory: f32, bf16 and f16 to f32 or bf16. */
#ifndef TENSORS_CONVERT_H
#define TENSORS_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "ops.h"

enum number { NUMBER_F32, NUMBER_BF16, NUMBER_F16, NUMBER_OTHER };
enum number number_of(const char *dtype); /* a safetensors dtype */
static inline int number_bytes(enum number n)
{
    return n == NUMBER_F32 ? 4 : 2;
}

float f16_to_f32(uint16_t h);

/* dst[0…count) of type `to` from src of `from`. src need not be aligned. dst may not overlap it. */
void convert(void *dst, enum type to, const void *src, enum number from, int64_t count);

#endif
