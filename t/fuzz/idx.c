/* SPDX-License-Identifier: MIT */
/* Megatron's .idx, beside .bin files of several sizes. What is accepted leads to bytes that the .bin has. */
#include "data/idx.h"
#include "fuzz/fuzz.h"

static void follow(const struct idx *x, int64_t bin_bytes)
{
    MUST(x->tokens >= 0);
    for (int64_t at = 0, run, steps = 0; at < x->tokens && steps < 1000; at += run, steps++) {
        int64_t byte = idx_find(x, at, &run);
        MUST(run > 0 && run <= x->tokens - at);
        MUST(byte >= 0 && byte % x->item_bytes == 0 && byte <= bin_bytes);
        MUST(run <= (bin_bytes - byte) / x->item_bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t bins[] = {0, 24, 1000, INT64_MAX};
    const char *path = memory_file(data, size);
    for (int i = 0; i < 4; i++) {
        struct idx x;
        if (idx_read(&x, path, "bin", bins[i]) < 0)
            continue;
        follow(&x, bins[i]);
        idx_release(&x);
    }
    return 0;
}
