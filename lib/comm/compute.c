/* SPDX-License-Identifier: MIT */
#include "comm/compute.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"

int comm_threads(const struct comm *c, int64_t wanted)
{
    const char *openmp = getenv("OMP_NUM_THREADS");
    if (wanted || (openmp && parse_int(openmp, 1, 1 << 20, &wanted)))
        return (int)wanted;
    return comm_processors(c);
}

const struct backend *comm_backend(const struct comm *c, const char *name, const char *device, int threads)
{
    if (strcmp(name, "auto") == 0) {
        name = device;
        int i = word_index(&backend_words, name);
        if (i < 0 || !backend_kinds[i].automatic) {
            error(STATUS_ENV, "the machine computes on '%s', which no backend does: use --backend cpu", name);
            return NULL;
        }
    }
    return backend_open(name, comm_local_rank(c), threads);
}
