/* SPDX-License-Identifier: MIT */
/* One thread through the codecs of lib/pack, in memory: pack-codec FILE WIDTH prints, a line a codec, its name,
 * ratio, and MB/s in and out (of raw bytes, of the thread's own time).
 * FILE: numbers of WIDTH bytes (1: any bytes). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "pack/codec.h"
#include "tensors/sum.h"

enum { PART = 4 << 20, ROUNDS = 3 };

static double thread_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int measure(enum codec k, const uint8_t *raw, int64_t size, int width)
{
    struct coder *c = coder_new(k, PART);
    uint8_t *packed = xmalloc((size_t)codec_bound(k, PART)), *back = xmalloc(PART);
    double in = 1e9, out = 1e9;
    int64_t total = 0;
    for (int round = 0; round < ROUNDS; round++) { /* the best of some: others are on this machine too */
        double in_s = 0, out_s = 0;
        total = 0;
        for (int64_t at = 0; at < size; at += PART) {
            int64_t n = min64(PART, size - at);
            struct split_run run = {n, width, 0};
            uint32_t crc = 0;
            double t0 = thread_s();
            int64_t m = coder_encode(c, raw + at, n, sum_bytes(0, raw + at, n), &run, 1, packed);
            double t1 = thread_s();
            if (m < 0 || coder_decode(c, packed, m, back, n, &crc) < 0 ||
                memcmp(back, raw + at, (size_t)n) != 0)
                return -1;
            out_s += thread_s() - t1;
            in_s += t1 - t0;
            total += m;
        }
        in = in_s < in ? in_s : in;
        out = out_s < out ? out_s : out;
    }
    printf("%s %.3f %.0f %.0f\n", (const char *)word_at(&codec_words, k), (double)total / (double)size,
           (double)size / in / 1e6, (double)size / out / 1e6);
    coder_free(c);
    free(packed);
    free(back);
    return 0;
}

int main(int argc, char **argv)
{
    size_t size;
    char *raw = argc == 3 ? file_read(argv[1], (size_t)1 << 30, &size) : NULL;
    int width = argc == 3 ? atoi(argv[2]) : 0;
    if (!raw || !size || size % (size_t)(width ? width : 1))
        return 2;
    return measure(CODEC_GZIP, (uint8_t *)raw, (int64_t)size, width) < 0 ||
           measure(CODEC_SPLIT, (uint8_t *)raw, (int64_t)size, width) < 0;
}
