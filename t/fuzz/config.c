/* SPDX-License-Identifier: MIT */
/* config.json. What is accepted can be counted, and says of itself what it said. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "model/config.h"
#include "model/inventory.h"
#include "model/size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model m, again;
    if (model_parse(&m, (const char *)data, size, "config.json") < 0)
        return 0;
    MUST(model_parameters(&m) > 0);
    MUST(model_active_parameters(&m) <= model_parameters(&m));
    MUST(model_flops_per_token(&m, 4096) > 0);
    MUST(m.source_bytes == size && memcmp(m.source, data, size) == 0 && strlen(m.source) == size);
    MUST(model_parse(&again, m.source, m.source_bytes, "config.json") == 0);
    model_release(&again);
    struct inventory v;
    if (m.layers * m.experts <= 4096 && inventory_init(&v, &m) == 0) {
        char name[128];
        for (int i = 0; i < v.count; i++)
            MUST(inventory_find(&v, &m, tensor_name(&m, &v.tensors[i], name)) == i);
        inventory_release(&v);
    }
    model_release(&m);
    return 0;
}
