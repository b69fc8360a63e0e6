/* SPDX-License-Identifier: MIT */
#include "base/copy.h"

#include <string.h>

#include "base/num.h"

#ifdef __SSE2__
#include <emmintrin.h>

enum { LINE = 64 };

void copy_through(void *to, const void *from, int64_t bytes)
{
    char *p = to;
    const char *q = from;
    int64_t head = min64((LINE - (int64_t)((uintptr_t)p % LINE)) % LINE, bytes), lines = (bytes - head) / LINE;
    memcpy(p, q, (size_t)head);
    p += head;
    q += head;
    for (int64_t i = 0; i < lines; i++, p += LINE, q += LINE)
        for (int j = 0; j < LINE; j += 16)
            _mm_stream_si128((__m128i *)(void *)(p + j),
                             _mm_loadu_si128((const __m128i *)(const void *)(q + j)));
    _mm_sfence(); /* before other threads are told */
    memcpy(p, q, (size_t)(bytes - head - lines * LINE));
}
#else
void copy_through(void *to, const void *from, int64_t bytes)
{
    memcpy(to, from, (size_t)bytes);
}
#endif
