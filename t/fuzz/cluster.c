/* SPDX-License-Identifier: MIT */
/* Cluster files. */
#include "cost/cluster.h"
#include "cost/curve.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t worlds[] = {1, 8, 1 << 20};
    const char *path = memory_file(data, size);
    for (int i = 0; i < 3; i++) {
        struct machine m;
        if (cluster_load(&m, path, worlds[i]) < 0)
            continue;
        MUST(m.nodes * m.per_node >= worlds[i]);
        MUST(m.memory_bytes >= 0 && m.flops_bf16 >= 0 && m.intra_s >= 0);
        struct curve c;
        MUST(curve_parse(&c, m.efficiency) == 0 && curve_share(&c, 1e10) > 0 && curve_share(&c, 1e10) <= 1);
    }
    return 0;
}
