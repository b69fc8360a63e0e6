/* SPDX-License-Identifier: MIT */
/* How a run starts: every step on all ranks, and all agree before the next. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "train/hosts.h"
#include "train/run.h"

int run_agree(struct run *run, int r)
{
    int64_t mine = r < 0 ? ((int64_t)error_status() << 32 | (INT32_MAX - comm_rank(run->comm))) : 0,
            worst = mine;
    if (host_max(comm_world(run->comm), &worst) < 0)
        return -1;
    if (worst == 0)
        return 0;
    if (worst != mine)
        error((enum status)(worst >> 32), "%s", "");
    run->agreed = true;
    return -1;
}

bool run_is_first(const struct run *run)
{
    return comm_rank(run->comm) == 0;
}

static int read_plan(struct run *run)
{
    int world = comm_size(run->comm);
    if (strcmp(run->o->plan, "-") == 0 && world > 1)
        return error(STATUS_USAGE, "a plan from standard input reaches only one rank: give --plan a file");
    TRY(plan_read(&run->plan, run->o->plan));
    if (run->plan.world != world)
        return error(STATUS_USAGE, "%s: the plan is for %d ranks, this job has %d: start it with mpirun -n %d",
                     run->o->plan, run->plan.world, world, run->plan.world);
    struct findings f = {0};
    plan_check(&run->plan, &f);
    int r = 0;
    for (int i = 0; i < f.count && r == 0; i++)
        if (f.list[i].verdict == VERDICT_FAIL && strcmp(f.list[i].rule, "memory-fits") != 0)
            r = error(STATUS_USAGE, "%s: %s: %s (see moe-plan-check)", run->o->plan, f.list[i].rule,
                      f.list[i].text);
    findings_release(&f);
    return r == 0 ? plan_runnable(&run->plan) : r;
}

static int choose_backend(struct run *run)
{
    const char *name = run->o->backend;
    if (strcmp(name, "auto") == 0 && strcmp(run->plan.machine.device, "cpu") != 0)
        return error(STATUS_ENV,
                     "the plan is for '%s' and this build has only the cpu backend: use --backend cpu",
                     run->plan.machine.device);
    return 0;
}

static void mark_samples(struct run *run)
{
    const struct plan *p = &run->plan;
    const struct coords *at = &run->e.at;
    bool reads = at->pp == p->stages[0].pp || at->pp == p->stages[p->stage_count - 1].pp;
    run->want = xcalloc((size_t)p->batch.global, sizeof *run->want);
    for (int64_t i = 0; i < p->batch.global && reads; i++)
        run->want[i] = i / p->batch.micro % p->axes.dp == (fault("data-same-dp") ? 0 : at->dp);
    run->tokens = xcalloc((size_t)(p->batch.microbatches * p->batch.micro),
                          (size_t)(p->batch.seq + 1) * sizeof *run->tokens);
}

int run_open_data(struct run *run)
{
    const struct plan *p = &run->plan;
    uint64_t seed = (uint64_t)run->recipe.seed;
    run->data = data_open(run->o->data, p->batch.seq, p->model.vocab, seed, run->o->shuffle);
    if (!run->data)
        return -1;
    if (run->o->eval && !(run->eval = data_open(run->o->eval, p->batch.seq, p->model.vocab, seed, false)))
        return -1;
    if (run->o->dump_routing) {
        char *path = xasprintf("%s.%d", run->o->dump_routing, comm_rank(run->comm));
        run->routing = fopen(path, "wb");
        int r = run->routing ? 0 : error_errno("cannot write '%s'", path);
        free(path);
        run->e.routing_dump = run->routing;
        return r;
    }
    return 0;
}

static void apply_recipe(struct run *run)
{
    struct recipe *r = &run->recipe;
    if (!isnan(r->aux_loss))
        run->e.aux_coef = r->aux_loss;
    if (!isnan(r->z_loss))
        run->e.z_coef = r->z_loss;
    if (isnan(r->bias_rate))
        r->bias_rate = run->plan.model.bias_rate;
}

int run_start(struct run *run)
{
    gethostname(run->host, sizeof run->host - 1);
    const struct train_options *o = run->o;
    TRY(run_agree(run, read_plan(run)));
    TRY(run_agree(run, choose_backend(run)));
    TRY(run_agree(run, hosts_check(run->comm, &run->plan, strcmp(o->placement, "warn") == 0, &run->hosts)));
    run->resident = process_resident_bytes();
    TRY(run_agree(run, engine_init(&run->e, &run->plan, run->be, run->stream, run->comm)));
    if (o->dry_run)
        return 0;
    mark_samples(run);
    TRY(run_agree(run, run_load_state(run)));
    run->start_step = run->step;
    apply_recipe(run);
    run->e.logits_path = o->dump_logits;
    if (run_is_first(run)) {
        run->loads = xcalloc((size_t)(run->plan.model.moe_layers * run->e.E), sizeof *run->loads);
        TRY(log_open(&run->log, o->log));
        TRY(log_write(&run->log, log_start_record(&run->e, o, run->step, run->threads, run->hosts)));
    }
    return 0;
}
