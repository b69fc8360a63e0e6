/* SPDX-License-Identifier: MIT */
/* How a run starts: every step on all ranks, and all agree before the next. */
#include "train/start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/process.h"
#include "check/runnable.h"
#include "engine/capture.h"
#include "engine/rehearse.h"
#include "engine/setup.h"
#include "plan/text.h"
#include "train/device.h"
#include "train/fault.h"
#include "train/feed.h"
#include "train/hosts.h"
#include "train/resume.h"
#include "train/saves.h"
#include "train/truth.h"

/* What only one rank needs to ask. */
static int check_plan(struct run *run)
{
    int world = comm_size(run->comm);
    char launch[HOSTS_LAUNCH];
    if (run->plan.world != world)
        return error(STATUS_USAGE, "%s: the plan is for %d ranks, this job has %d: start it with %s",
                     run->o->plan, run->plan.world, world, hosts_launch(&run->plan, launch));
    if (plan_runnable(&run->plan) < 0)
        return error_prefix("%s", run->o->plan);
    plan_remarks(&run->plan);
    return 0;
}

/* What is written only after the weights are there, or later. */
static int check_outputs(const struct train_options *o)
{
    if (o->dump_gradients && file_exists(o->dump_gradients))
        return error(STATUS_USAGE, "--dump-gradients '%s' is there already", o->dump_gradients);
    TRY(output_check(o->dump_gradients));
    TRY(output_check(o->dump_logits));
    return log_check(o->log);
}

/* Rank 0 reads it, for all. */
static int take_plan(struct run *run)
{
    bool first = run_is_first(run);
    size_t bytes = 0;
    char *text = first ? file_read(run->o->plan, MAX_PLAN_BYTES, &bytes) : NULL;
    TRY(truth_send(run, first && !text ? -1 : 0, &text, &bytes));
    int r = plan_parse(&run->plan, text, bytes, run->o->plan, true);
    free(text);
    TRY(run_agree(run, r));
    return run_agree(run, first ? check_plan(run) : 0);
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

/* What the run does is what the plan says, unless the command line says otherwise. Without overlap a plan's
 * stages go on while messages travel, as cost/simulate.h has it; only the command line holds them up. */
static void choose_overlap(struct run *run)
{
    struct engine *e = &run->e;
    if (run->o->overlap)
        e->overlap = strcmp(run->o->overlap, "on") == 0;
    e->held = run->o->overlap && !e->overlap;
    if (e->overlap != run->plan.training.overlap)
        notice("--overlap %s: the plan's predictions are for overlap %s", run->o->overlap,
               run->plan.training.overlap ? "on" : "off");
}

/* The log's start record, with where the run comes from. */
static int begin_log(struct run *run)
{
    const struct train_options *o = run->o;
    TRY(log_open(&run->log, o->log));
    TRY(fault_gather(&run->log, o->log, true));
    json_t *record = log_start_record(&run->e, o, run->step, run->threads, run->hosts);
    json_object_set_new(record, "run", json_string(run->id));
    if (run->line.count) {
        json_object_set_new(record, "parent", json_string(run->line.from[0].run));
        json_object_set_new(record, "load_s", log_real(run->load_s));
        json_object_set_new(record, "load_bytes", json_integer(run->loaded));
    }
    return log_write(&run->log, record);
}

/* What a reader of the timeline needs beside its operations. */
static int describe_timeline(struct run *run)
{
    static const char *const out[] = {"out", "out 2"}, *const in[] = {"in", "in 2"};
    const struct engine *e = &run->e;
    timeline_name(run->timeline, e->s, "compute");
    timeline_name(run->timeline, e->side, "counts");
    timeline_name(run->timeline, e->rows, "rows");
    if (e->buckets.s)
        timeline_name(run->timeline, e->buckets.s, "buckets");
    for (int k = 0; k < GROUP_KINDS; k++) {
        const struct plan_group *g = plan_group_of(&run->plan, k, e->rank);
        if (g && g->size > 1)
            TRY(timeline_group(run->timeline, group_name[k], g->ranks, g->size));
    }
    for (int i = 0; i < 2 && e->mail[i].out; i++) {
        timeline_name(run->timeline, e->mail[i].out, out[i]);
        timeline_name(run->timeline, e->mail[i].in, in[i]);
        int peer = plan_group_of(&run->plan, GROUP_PP, e->rank)->ranks[e->mail[i].peer];
        TRY(timeline_peer(run->timeline, out[i], peer));
        TRY(timeline_peer(run->timeline, in[i], peer));
    }
    return 0;
}

int run_start(struct run *run)
{
    process_host(run->host);
    TRY(truth_options(run));
    const struct train_options *o = run->o;
    TRY(take_plan(run));
    TRY(run_agree(run, run_is_first(run) && !o->dry_run ? check_outputs(o) : 0));
    if (!o->dry_run)
        TRY(saves_open(run));
    TRY(run_agree(run, device_open(run)));
    TRY(run_agree(run, device_check(run)));
    TRY(run_agree(run, comm_attach(run->comm, run->be)));
    TRY(run_agree(run, hosts_check(run->comm, &run->plan, strcmp(o->placement, "warn") == 0, &run->hosts)));
    run->resident = process_resident_bytes();
    TRY(run_agree(run, engine_init(&run->e, &run->plan, run->be, run->stream, run->comm)));
    choose_overlap(run);
    TRY(run_agree(run, comm_join(run->comm, run->e.group, GROUP_KINDS)));
    if (o->dry_run)
        return 0;
    if (run->timeline)
        TRY(run_agree(run, describe_timeline(run)));
    feed_mark(run);
    TRY(run_load_state(run));
    TRY(saves_check_line(run));
    run->start_step = run->step;
    saves_prepare(run);
    if (run->timeline && !timeline_records(run->timeline, run->step + 1, o->steps))
        notice("--timeline %s: nothing is recorded, the steps to do are %lld to %lld", o->timeline,
               (long long)run->step + 1, (long long)o->steps);
    apply_recipe(run);
    TRY(run_agree(run, engine_rehearse(&run->e, run->tokens)));
    run->e.logits_path = o->dump_logits;
    capture_open(&run->e, strcmp(o->capture, "on") == 0);
    if (run_is_first(run))
        run->loads = xcalloc((size_t)(run->plan.model.moe_layers * run->e.E), sizeof *run->loads);
    return run_agree(run, run_is_first(run) ? begin_log(run) : 0);
}
