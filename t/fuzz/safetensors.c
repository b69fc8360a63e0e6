/* SPDX-License-Identifier: MIT */
/* Headers of safetensors files. What is accepted fills the file without overlap or hole, and is found by
 * name. */
#include "tensors/safetensors.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_file f;
    if (st_open(&f, memory_file(data, size)) < 0)
        return 0;
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
    return 0;
}
