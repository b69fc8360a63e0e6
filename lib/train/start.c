/* SPDX-License-Identifier: MIT */
/* How a run starts: every step on all ranks, and all agree before the next. */
#include "train/start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "check/check.h"
#include "check/runnable.h"
#include "engine/setup.h"
#include "plan/text.h"
#include "train/device.h"
#include "train/fault.h"
#include "train/feed.h"
#include "train/hosts.h"
#include "train/resume.h"

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

static void apply_recipe(struct run *run)
{
    struct recipe *r = &run->recipe;
    for (int i = 0; i < ROUTER_LOSSES; i++)
        if (!isnan(r->router_loss[i]))
            run->e.loss_coef[i] = r->router_loss[i];
    if (isnan(r->bias_rate))
        r->bias_rate = run->plan.model.bias_rate;
}

int run_start(struct run *run)
{
    process_host(run->host);
    const struct train_options *o = run->o;
    TRY(run_agree(run, read_plan(run)));
    TRY(run_agree(run, device_open(run)));
    TRY(run_agree(run, comm_attach(run->comm, run->be, run->stream)));
    TRY(run_agree(run, hosts_check(run->comm, &run->plan, strcmp(o->placement, "warn") == 0, &run->hosts)));
    run->resident = process_resident_bytes();
    TRY(run_agree(run, engine_init(&run->e, &run->plan, run->be, run->stream, run->comm)));
    if (o->dry_run)
        return 0;
    feed_mark(run);
    TRY(run_agree(run, run_load_state(run)));
    run->start_step = run->step;
    apply_recipe(run);
    run->e.logits_path = o->dump_logits;
    if (run_is_first(run)) {
        run->loads = xcalloc((size_t)(run->plan.model.moe_layers * run->e.E), sizeof *run->loads);
        TRY(log_open(&run->log, o->log));
        TRY(fault_gather(&run->log, o->log));
        TRY(log_write(&run->log, log_start_record(&run->e, o, run->step, run->threads, run->hosts)));
    }
    return 0;
}
