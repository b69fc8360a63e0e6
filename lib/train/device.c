/* SPDX-License-Identifier: MIT */
#include "train/device.h"

#include <string.h>

#include "base/error.h"
#include "train/hosts.h"

const char *device_word(int i, const char **help)
{
    const struct backend_kind *kind = i > 0 ? backend_kind(i - 1) : NULL;
    *help = kind ? kind->help : NULL;
    return i == 0 ? "auto" : kind ? kind->name : NULL;
}

static bool automatic(const char *device)
{
    const struct backend_kind *kind;
    for (int i = 0; (kind = backend_kind(i)); i++)
        if (kind->automatic && strcmp(kind->name, device) == 0)
            return true;
    return false;
}

int device_open(struct run *run)
{
    const char *name = run->o->backend, *device = run->plan.machine.device;
    if (strcmp(name, "auto") == 0) {
        if (!automatic(device))
            return error(STATUS_ENV,
                         "the plan is for '%s' and this build has only the cpu backend: use --backend cpu",
                         device);
        name = device;
    }
    run->threads = hosts_threads(run->o->threads, run->processors);
    run->be = backend_open(name, comm_local_rank(run->comm), run->threads);
    if (!run->be)
        return -1;
    run->stream = run->be->stream_new();
    return 0;
}
