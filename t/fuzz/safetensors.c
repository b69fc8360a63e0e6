/* SPDX-License-Identifier: MIT */
/* Headers of safetensors files. What is accepted fills the file without overlap or hole, and is found by
 * name. */
#include "tensors/safetensors.h"
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"

static void try(const uint8_t *data, size_t size)
{
    struct st_file f;
    if (st_open(&f, memory_file(data, size)) < 0)
        return;
    int64_t end = 0;
    for (int i = 0; i < f.count; i++) {
        const struct st_tensor *t = &f.tensors[i];
        char shape[192];
        MUST(t->begin == end && t->end >= t->begin);
        MUST(st_find(&f, t->name) == t);
        st_shape_text(t, shape);
        end = t->end;
    }
    MUST(f.data + end == (int64_t)size);
    MUST(!st_find(&f, "no such tensor"));
    st_close(&f);
}

/* As a file; and as a header alone, with the number of bytes of data behind it in its last two. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try(data, size);
    if (size < 2)
        return 0;
    uint64_t header = size - 2, bytes = data[size - 2] + 256 * (data[size - 1] % 16);
    uint8_t *file = calloc(8 + header + bytes, 1);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(header >> 8 * i);
    memcpy(file + 8, data, header);
    try(file, 8 + header + bytes);
    free(file);
    return 0;
}
