/* SPDX-License-Identifier: MIT */
/* manifest.json of a checkpoint. Few inputs have the right sum, so they are also tried with it set right. What
 * is accepted is the same after being written and read. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "ckpt/manifest.h"
#include "fuzz/fuzz.h"

static void try(const char *text, size_t bytes)
{
    struct manifest m, again;
    if (manifest_parse(&m, text, bytes, "manifest.json") < 0)
        return;
    char *written = manifest_text(&m);
    MUST(manifest_parse(&again, written, strlen(written), "again") == 0);
    char *rewritten = manifest_text(&again);
    MUST(again.count == m.count && strcmp(written, rewritten) == 0);
    free(written);
    free(rewritten);
    manifest_release(&again);
    manifest_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { END = MANIFEST_SUM_BYTES }; /* the sum covers what is before */
    char *text = malloc(size + 1), end[END + 1];
    memcpy(text, data, size);
    try(text, size);
    if (size >= END) {
        uint32_t sum = (uint32_t)crc32_z(0, data, size - END);
        snprintf(end, sizeof end, ",\n  \"sum\": \"%08" PRIx32 "\"\n}\n", sum);
        memcpy(text + size - END, end, END);
        try(text, size);
    }
    free(text);
    return 0;
}
