/* SPDX-License-Identifier: MIT */
#include "train/device.h"

#include <string.h>

#include "base/error.h"
#include "train/hosts.h"

int device_open(struct run *run)
{
    const char *name = run->o->backend;
    if (strcmp(name, "auto") == 0) {
        name = device_name[run->plan.machine.device];
        int i = word_index(&backend_words, name);
        if (i < 0 || !backend_kinds[i].automatic)
            return error(STATUS_ENV, "the plan is for '%s', which no backend computes with: use --backend cpu",
                         name);
    }
    run->threads = hosts_threads(run->o->threads, run->processors);
    run->be = backend_open(name, comm_local_rank(run->comm), run->threads);
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
