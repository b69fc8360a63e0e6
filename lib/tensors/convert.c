/* SPDX-License-Identifier: MIT */
#include "tensors/convert.h"

#include <string.h>

#include "base/bf16.h"

enum number number_of(const char *dtype)
{
    return strcmp(dtype, "F32") == 0    ? NUMBER_F32
           : strcmp(dtype, "BF16") == 0 ? NUMBER_BF16
           : strcmp(dtype, "F16") == 0  ? NUMBER_F16
                                        : NUMBER_OTHER;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 0) /* zero and subnormals: fraction · 2^-24 */
        return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000 | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

void convert(void *dst, enum type to, const void *src, enum number from, int64_t count)
{
    if ((to == F32 && from == NUMBER_F32) || (to == BF16 && from == NUMBER_BF16)) {
        memcpy(dst, src, count * type_bytes(to));
        return;
    }
    const char *p = src;
    float *f = dst;
    uint16_t *b = dst;
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        float value;
        if (from == NUMBER_F32) {
            memcpy(&value, p + 4 * i, 4);
        } else {
            memcpy(&half, p + 2 * i, 2);
            value = from == NUMBER_BF16 ? bf16_to_f32(half) : f16_to_f32(half);
        }
        if (to == F32)
            f[i] = value;
        else
            b[i] = f32_to_bf16(value);
    }
}
