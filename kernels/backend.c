/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <omp.h>

#include "backends.h"
#include "base/error.h"

#define X(name, automatic) {#name, automatic, name##_backend},
const struct backend_kind backend_kinds[] = {BACKENDS(X){NULL}};
#undef X
const struct words backend_words = WORDS(backend_kinds);

const struct backend *backend_open(const char *name, int device, int threads)
{
    int i = word_index(&backend_words, name);
    if (i < 0) {
        error(STATUS_USAGE, "no backend is called '%s'", name);
        return NULL;
    }
    omp_set_dynamic(0);
    omp_set_num_threads(threads > 0 ? threads : 1);
    return backend_kinds[i].open(device);
}
