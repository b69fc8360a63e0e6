/* SPDX-License-Identifier: MIT */
#include "train/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/compute.h"
#include "comm/host.h"

int device_open(struct run *run)
{
    run->threads = comm_threads(run->comm, run->o->threads);
    run->be = comm_backend(run->comm, run->o->backend, device_name[run->plan.machine.device], run->threads);
    if (!run->be)
        return -1;
    if (run->o->timeline) {
        run->timeline = timeline_open(run->o->timeline, run->be, comm_rank(run->comm), comm_size(run->comm));
        if (!run->timeline)
            return -1;
        run->be = timeline_backend(run->timeline);
    }
    run->stream = run->be->stream_new();
    return 0;
}

/* At the first rank of a host: no two of its ranks' devices are the same. */
static int none_shared(const struct run *run, const char (*ids)[sizeof run->be->device->id])
{
    const int *ranks = comm_local_list(run->comm);
    int n = comm_local_ranks(run->comm);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(ids[k], ids[i]) == 0)
                return error(
                    STATUS_ENV,
                    "ranks %d and %d of the %d on host '%s' would share device %s: start no more ranks "
                    "than the host has devices (CUDA_VISIBLE_DEVICES may hide some), or let them share "
                    "with --comm mpi",
                    ranks[k], ranks[i], n, run->host, ids[i]);
    return 0;
}

int device_check(struct run *run)
{
    const struct backend_device *d = run->be->device;
    bool may = strcmp(run->o->comm, "auto") != 0 && strcmp(run->o->comm, "nccl") != 0;
    if (!d || may || comm_local_ranks(run->comm) == 1)
        return 0;
    struct group *host = comm_group(run->comm, "host", comm_local_list(run->comm), comm_local_ranks(run->comm));
    char(*ids)[sizeof d->id] = xcalloc((size_t)comm_local_ranks(run->comm), sizeof *ids);
    int r = host ? host_gather(host, d->id, sizeof d->id, ids) : -1;
    if (r == 0 && group_rank(host) == 0)
        r = none_shared(run, ids);
    comm_group_free(host);
    free(ids);
    return r;
}
