/* SPDX-License-Identifier: MIT */
#include "train/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/notice.h"
#include "ckpt/save.h"
#include "engine/loads.h"
#include "engine/optimizer.h"
#include "engine/pipeline.h"
#include "train/resume.h"

void step_clear_totals(struct engine *e)
{
    float *loads = e->totals.loads;
    memset(loads, 0, (size_t)e->moe_layers * (size_t)e->E * sizeof *loads);
    e->totals = (struct totals){.loads = loads};
}

int step_gather_shares(struct run *run, double square, struct step_share *sum)
{
    const struct engine *e = &run->e;
    const struct totals *t = &e->totals;
    bool tp0 = e->at.tp == 0;
    /* a norm that lacks an axis: only the first along it are counted in */
    bool uncounted = fault("norm-missing-pp") && e->at.pp;
    uncounted = uncounted || (fault("norm-missing-tp") && e->at.tp);
    uncounted = uncounted || (fault("norm-missing-dp") && e->at.dp);
    *sum = (struct step_share){.square = uncounted ? 0 : square,
                               .loss = tp0 ? t->loss : 0,
                               .dropped = tp0 ? t->dropped : 0,
                               .overflow = e->at.ep == 0 && e->at.etp == 0 ? t->overflow : 0};
    for (int i = 0; i < ROUTER_LOSSES && tp0; i++)
        sum->router_loss[i] = t->router_loss[i];
    return step_share_sum(comm_world(run->comm), sum);
}

static int dump_gradients(struct run *run)
{
    struct rank_state s = run_state(run);
    return checkpoint_save_gradients(&s, run->comm, run->e.arena.grad, run->o->dump_gradients, &run->agreed);
}

/* Phases of the step so far from every rank, to rank 0's log. */
static int report_step(struct run *run, const struct step_share *sum, double norm, double lr)
{
    struct engine *e = &run->e;
    const struct plan *p = &run->plan;
    profile_enter(&e->profile, PHASE_IDLE);
    double now = e->profile.since_s;
    int pp = (int)p->axes.pp;
    struct figures *all = figures_new(e->rank, e->profile.spent_s, e->arena.bytes.total, e->at.pp, pp);
    memset(e->profile.spent_s, 0, sizeof e->profile.spent_s);
    int r = figures_reduce(comm_world(run->comm), all, pp);
    if (r == 0)
        r = loads_collect(e, run->loads);
    if (r == 0 && run_is_first(run)) {
        int64_t every = run->o->loads_every;
        struct step_report report = {.step = run->step,
                                     .tokens = p->batch.global * p->batch.seq,
                                     .loss = sum->loss * e->loss_scale,
                                     .grad_norm = norm,
                                     .lr = lr,
                                     .time_s = now - run->mark_s,
                                     .dropped = sum->dropped,
                                     .overflow = sum->overflow,
                                     .all = all,
                                     .loads = run->loads,
                                     .with_loads =
                                         every && (run->step % every == 0 || run->step == run->o->steps)};
        for (int i = 0; i < ROUTER_LOSSES; i++)
            report.router_loss[i] = sum->router_loss[i] * e->aux_scale;
        r = log_write(&run->log, log_step_record(e, &report));
        progress("step", (uint64_t)run->step, (uint64_t)run->o->steps, "steps");
    }
    run->mark_s = now;
    free(all);
    return r;
}

int step_run(struct run *run)
{
    struct engine *e = &run->e;
    const struct recipe *r = &run->recipe;
    const struct program *program = &run->plan.programs[e->at.pp];
    e->step = ++run->step;
    step_clear_totals(e);
    profile_enter(&e->profile, PHASE_OPTIMIZER);
    gradients_zero(e);
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(run_agree(run, data_next(run->data, run->plan.batch.global, run->want, run->tokens)));
    TRY(pipeline_run(e, program, run->tokens));
    bool dump = run->o->dump_gradients && run->step == run->start_step + 1;
    TRY(gradients_reduce(e, dump));
    if (dump)
        TRY(dump_gradients(run));
    double square;
    struct step_share sum;
    profile_enter(&e->profile, PHASE_OPTIMIZER);
    TRY(gradients_square(e, &square));
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(step_gather_shares(run, square, &sum));
    TRY(loads_sum(e));
    double norm = sqrt(sum.square), lr = recipe_lr(r, run->step);
    if (!isfinite(sum.loss) || !isfinite(norm)) {
        report_step(run, &sum, norm, lr);
        error(STATUS_NO, "step %" PRId64 ": the %s is not finite: the run has diverged (%s)", run->step,
              isfinite(sum.loss) ? "gradient norm" : "loss",
              run->saved >= 0 ? "the last checkpoint is untouched" : "no checkpoint was written");
        return run_agree(run, -1);
    }
    double clip = r->clip > 0 ? fmin(1, r->clip / (norm + 1e-6)) : 1;
    struct hyper hyper = {
        .lr = lr, .beta1 = r->beta1, .beta2 = r->beta2, .eps = r->eps, .weight_decay = r->weight_decay};
    TRY(optimizer_update(e, &hyper, run->step, clip));
    TRY(loads_update_bias(e, r->bias_rate));
    return run_agree(run, report_step(run, &sum, norm, lr));
}
