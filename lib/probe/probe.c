/* SPDX-License-Identifier: MIT */
#include "probe/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/halt.h"
#include "base/notice.h"
#include "comm/agree.h"
#include "comm/compute.h"
#include "comm/host.h"
#include "cost/cluster.h"
#include "plan/text.h"

bool probe_is_first(const struct probe *p)
{
    return comm_rank(p->comm) == 0;
}

int probe_agree(struct probe *p, int r)
{
    return comm_agree(p->comm, r, &p->agreed);
}

static int take_plan(struct probe *p)
{
    const char *path = p->o->plan;
    size_t bytes = 0;
    char *text = probe_is_first(p) ? file_read(path, MAX_PLAN_BYTES, &bytes) : NULL;
    TRY(comm_share_text(p->comm, probe_is_first(p) && !text ? -1 : 0, &text, &bytes, &p->agreed));
    int r = plan_parse(&p->plan, text, bytes, path, true);
    free(text);
    TRY(probe_agree(p, r));
    if (p->plan.world != comm_size(p->comm))
        r = error(STATUS_USAGE,
                  "%s: the plan is for %d ranks, this job has %d: without --plan any number will do", path,
                  p->plan.world, comm_size(p->comm));
    p->machine = p->plan.machine;
    return probe_agree(p, probe_is_first(p) ? r : 0);
}

static int take_cluster(struct probe *p)
{
    int r = probe_is_first(p) ? cluster_load(&p->machine, p->o->cluster, comm_size(p->comm)) : 0;
    TRY(probe_agree(p, r));
    return host_broadcast(comm_world(p->comm), 0, &p->machine, sizeof p->machine);
}

/* A plan says what is computed on, unless a cluster file says what is expected. */
static int take_machine(struct probe *p)
{
    if (p->o->plan)
        TRY(take_plan(p));
    return p->o->cluster || !p->o->plan ? take_cluster(p) : 0;
}

int probe_open(struct probe *p, const struct probe_options *o, size_t (*bytes_of)(const struct backend *be))
{
    *p = (struct probe){.o = o};
    halt_at("init");
    p->comm = comm_open_within(o->comm, o->timeout_s, o->last_words);
    if (!p->comm)
        return -1;
    if (comm_rank(p->comm) > 0)
        notice_open("moe-train", NOTICE_SILENT, 0); /* the first rank speaks for all */
    error_clear();
    process_host(p->host);
    TRY(probe_agree(p, probe_is_first(p) ? output_check(o->output) : 0));
    TRY(take_machine(p));
    p->threads = comm_threads(p->comm, o->threads);
    const struct backend *be = comm_backend(p->comm, o->backend, device_name[p->machine.device], p->threads);
    TRY(probe_agree(p, be ? 0 : -1));
    TRY(probe_agree(p, comm_attach(p->comm, be)));
    return probe_agree(p, bench_open(&p->bench, p->comm, be, bytes_of(be)));
}

void probe_close(struct probe *p)
{
    bench_close(&p->bench);
    if (p->plan.world)
        plan_release(&p->plan);
    p->plan = (struct plan){0};
}
