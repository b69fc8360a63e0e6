/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <omp.h>
#include <string.h>

#include "backends.h"
#include "base/error.h"

#define X(name, help, automatic) {#name, help, automatic, name##_backend},
static const struct backend_kind kinds[] = {BACKENDS(X)};
#undef X

const struct backend_kind *backend_kind(int i)
{
    return i < (int)(sizeof kinds / sizeof *kinds) ? &kinds[i] : NULL;
}

const struct backend *backend_open(const char *name, int device, int threads)
{
    const struct backend_kind *kind;
    for (int i = 0; (kind = backend_kind(i)); i++) {
        if (strcmp(name, kind->name))
            continue;
        omp_set_dynamic(0);
        omp_set_num_threads(threads > 0 ? threads : 1);
        return kind->open(device);
    }
    error(STATUS_USAGE, "no backend is called '%s'", name);
    return NULL;
}
