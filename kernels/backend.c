/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <omp.h>
#include <string.h>

#include "base/error.h"
#include "immediate.h"

static const struct {
    const char *name;
    const struct backend *(*get)(void);
} table[] = {{"ref", ref_backend}, {"cpu", cpu_backend}, {"guard", guard_backend}};

const struct backend *backend_open(const char *name, int threads)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(name, table[i].name))
            continue;
        omp_set_dynamic(0);
        omp_set_num_threads(threads > 0 ? threads : 1);
        return table[i].get();
    }
    error(STATUS_USAGE, "no backend is called '%s'; there are ref, cpu and guard", name);
    return NULL;
}
