/* SPDX-License-Identifier: MIT */
#include "train/train.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/halt.h"
#include "base/memory.h"
#include "base/notice.h"
#include "comm/host.h"
#include "engine/setup.h"
#include "train/fault.h"
#include "train/hosts.h"
#include "train/loop.h"
#include "train/saves.h"
#include "train/start.h"

/* The end of the log, on rank 0. */
static int finish(struct run *run, enum status s)
{
    static const char *const reason[] = {"done", "diverged", "bad input", "the environment failed"};
    int w =
        log_write(&run->log, json_pack("{s:s,s:I,s:i,s:s,s:I,s:I}", "kind", "end", "step",
                                       (json_int_t)run->step, "status", (int)s, "reason",
                                       s == STATUS_REQUEUE ? "stopped by a signal, checkpointed" : reason[s],
                                       "arena_bytes", (json_int_t)run->e.arena.bytes.total, "process_bytes",
                                       (json_int_t)run->process_bytes));
    int c = log_close(&run->log);
    return w < 0 || c < 0 ? -1 : 0;
}

/* All go together, or the job is broken: a rank that is lost now would be waited for in MPI's own end. */
static int leave(struct run *run)
{
    halt_at("end");
    int64_t here = 0;
    if (host_max(comm_world(run->comm), &here) == 0)
        return 0;
    fault_report(run);
    return -1;
}

static int report_dry_run(struct run *run)
{
    const struct memory *m = &run->e.arena.bytes;
    struct memory *all = run_is_first(run) ? xcalloc((size_t)run->plan.world, sizeof *all) : NULL;
    int r = host_gather(comm_world(run->comm), m, sizeof *m, all);
    if (r == 0 && run_is_first(run)) {
        printf("#rank\tstage\tweights\tgradients\toptimizer\tactivations\tworkspace\ttotal\n");
        for (int i = 0; i < run->plan.world; i++)
            printf("%d\t%d\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\n", i,
                   run->plan.ranks[i].pp, all[i].weights, all[i].gradients, all[i].optimizer,
                   all[i].activations, all[i].workspace, all[i].total);
    }
    free(all);
    return run_agree(run, r);
}

static void release(struct run *run)
{
    saves_close(run);
    engine_release(&run->e);
    timeline_free(run->timeline);
    data_close(run->data);
    data_close(run->eval);
    plan_release(&run->plan);
    if (run->routing)
        fclose(run->routing);
    free(run->tokens);
    free(run->want);
    free(run->companions);
    free(run->loads);
    free(run->paths);
    line_release(&run->line);
}

enum status train_run(const struct train_options *o, struct comm **comm, bool *broken)
{
    struct run run = {.options = *o, .recipe = o->recipe, .saved = -1};
    run.o = &run.options;
    *comm = NULL;
    *broken = false;
    halt_at("init");
    run.comm = *comm = comm_open_within(o->comm, o->timeout_s, o->last_words);
    if (!run.comm)
        return error_status();
    halt_at("start");
    if (comm_rank(run.comm) > 0)
        notice_open("moe-train", NOTICE_SILENT, 0); /* the first rank speaks for all */
    error_clear();
    int r = run_start(&run);
    if (r == 0)
        r = o->dry_run ? report_dry_run(&run) : run_steps(&run);
    *broken = r < 0 && !run.agreed && comm_size(run.comm) > 1; /* failed alone: the others still wait */
    if (*broken)
        fault_report(&run);
    enum status s = r < 0 ? error_status() : run.status;
    if (!*broken && leave(&run) < 0) {
        *broken = true;
        s = s == STATUS_DONE || s == STATUS_REQUEUE ? STATUS_ENV : s;
        r = -1;
    }
    if (!*broken && timeline_close(run.timeline) < 0)
        s = STATUS_ENV;
    if (run.log.f && finish(&run, s) < 0)
        s = s == STATUS_DONE || s == STATUS_REQUEUE ? STATUS_ENV : s;
    if (*broken)
        saves_close(&run); /* messages may still come and go: their memory stays until the process ends */
    else
        release(&run);
    return s;
}
