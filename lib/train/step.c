/* SPDX-License-Identifier: MIT */
#include "train/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/notice.h"
#include "base/num.h"
#include "ckpt/save.h"
#include "engine/buckets.h"
#include "engine/loads.h"
#include "engine/optimizer.h"
#include "engine/pipeline.h"
#include "engine/totals.h"
#include "train/saves.h"
#include "train/weights.h"

static int dump_gradients(struct run *run)
{
    struct rank_state s = run_state(run);
    return checkpoint_save_gradients(&s, run->comm, run->e.arena.grad, run->o->dump_gradients, &run->agreed);
}

/* For who watches a terminal. The time that is left is that of the steps alone, by about the last ten. */
static void show_progress(struct run *run, double loss, int64_t tokens, double time_s)
{
    char left[24];
    int64_t more = run->o->steps - run->step;
    run->recent_s = run->step == run->start_step + 1 ? time_s : 0.9 * run->recent_s + 0.1 * time_s;
    progress_text(more == 0, "step %" PRId64 " of %" PRId64 ": loss %.4f, %.0f tokens/s, %s left", run->step,
                  run->o->steps, loss, (double)tokens / run->recent_s,
                  human_time(run->recent_s * (double)more, left));
}

/* Phases of the step so far from every rank, to rank 0's log. */
static int report_step(struct run *run, double lr)
{
    struct engine *e = &run->e;
    const struct totals *t = &e->figures->totals;
    const struct plan *p = &run->plan;
    struct profile_times times;
    profile_close(&e->profile, &times);
    saves_count_step(run, times.total_s);
    int pp = (int)p->axes.pp;
    struct figures *all = figures_new(e->rank, &times, e->arena.bytes.total, e->at.pp, pp);
    all->overflow = e->at.ep == 0 && e->at.etp == 0 ? e->overflow : 0;
    int r = figures_reduce(comm_world(run->comm), all, pp);
    if (r == 0)
        r = loads_collect(e, run->loads);
    if (r == 0 && run_is_first(run)) {
        int64_t every = run->o->loads_every;
        struct step_report report = {.step = run->step,
                                     .tokens = p->batch.global * p->batch.seq,
                                     .loss = t->loss * e->loss_scale,
                                     .grad_norm = sqrt(t->square),
                                     .lr = lr,
                                     .time_s = times.total_s,
                                     .dropped = t->dropped,
                                     .overflow = all->overflow,
                                     .all = all,
                                     .loads = run->loads,
                                     .with_loads =
                                         every && (run->step % every == 0 || run->step == run->o->steps)};
        for (int i = 0; i < ROUTER_LOSSES; i++)
            report.router_loss[i] = t->router_loss[i] * e->aux_scale;
        r = log_write(&run->log, log_step_record(e, &report));
        show_progress(run, report.loss, report.tokens, times.total_s);
    }
    free(all);
    return r;
}

static int diverged(struct run *run)
{
    error(STATUS_NO, "step %" PRId64 ": the %s is not finite: the run has diverged (%s)", run->step,
          isfinite(run->e.figures->totals.loss) ? "gradient norm" : "loss",
          run->saved >= 0 ? "the last checkpoint is untouched" : "no checkpoint was written");
    return run_agree(run, -1);
}

/* What ends a step is queued as if it went well; whether it did comes down with its figures. */
int step_run(struct run *run)
{
    struct engine *e = &run->e;
    const struct recipe *r = &run->recipe;
    const struct program *program = &run->plan.programs[e->at.pp];
    e->step = ++run->step;
    if (run->timeline)
        timeline_begin(run->timeline, run->step, e->s);
    profile_enter(&e->profile, PHASE_OPTIMIZER);
    totals_clear(e);
    gradients_begin(e);
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(run_agree(run, data_next(run->data, run->plan.batch.global, run->want, run->tokens)));
    TRY(pipeline_run(e, program, run->tokens));
    bool dump = run->o->dump_gradients && run->step == run->start_step + 1;
    TRY(gradients_reduce(e, dump));
    if (dump)
        TRY(dump_gradients(run));
    profile_enter(&e->profile, PHASE_OPTIMIZER);
    gradients_square(e);
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(totals_sum(e));
    TRY(loads_sum(e));
    struct hyper hyper = {.lr = recipe_lr(r, run->step),
                          .beta1 = r->beta1,
                          .beta2 = r->beta2,
                          .eps = r->eps,
                          .weight_decay = r->weight_decay,
                          .clip = r->clip,
                          .step = run->step};
    TRY(optimizer_update(e, &hyper));
    loads_update_bias(e, r->bias_rate);
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(totals_fetch(e));
    if (run->timeline)
        TRY(run_agree(run, timeline_end(run->timeline)));
    int reported = report_step(run, hyper.lr);
    return e->figures->update.skip ? diverged(run) : run_agree(run, reported);
}
