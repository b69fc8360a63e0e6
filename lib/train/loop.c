/* SPDX-License-Identifier: MIT */
/* The loop over steps: evaluation, checkpoints, stop. */
#include "train/loop.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/halt.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/process.h"
#include "comm/host.h"
#include "engine/pipeline.h"
#include "engine/totals.h"
#include "train/saves.h"
#include "train/step.h"

/* ---- signals ---- */

static bool hold_interrupts, interrupted;

static sigset_t stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    if (hold_interrupts)
        sigaddset(&set, SIGINT);
    return set;
}

void train_hold_signals(bool interrupts)
{
    struct sigaction now = {0};
    hold_interrupts = interrupts && sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler != SIG_IGN;
    sigset_t set = stop_signals();
    sigprocmask(SIG_BLOCK, &set, NULL);
}

bool train_interrupted(void)
{
    return interrupted;
}

static bool stop_signalled(void)
{
    sigset_t set = stop_signals();
    int got = sigtimedwait(&set, NULL, &(struct timespec){0});
    if (got == SIGTERM)
        comm_end(); /* nothing is pending any more: waits must know all the same */
    if (got == SIGINT) {
        interrupted = true;
        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_UNBLOCK, &set, NULL); /* who cannot wait for the save asks again */
    }
    return got > 0;
}

/* ---- evaluation ---- */

static int evaluate(struct run *run)
{
    struct engine *e = &run->e;
    const struct plan *p = &run->plan;
    int64_t *origin = xcalloc((size_t)data_sources(run->eval), sizeof *origin);
    int64_t all = data_tokens(run->eval) / p->batch.seq / p->batch.global,
            batches = max64(1, min64(run->o->eval_steps, all));
    double begin = now_s(), loss = 0;
    int r = data_seek(run->eval, origin, data_sources(run->eval));
    e->evaluate = true;
    for (int64_t i = 0; i < batches && r == 0; i++) {
        totals_clear(e);
        r = run_agree(run, data_next(run->eval, p->batch.global, run->want, run->tokens));
        if (r == 0)
            r = pipeline_run(e, &p->programs[e->at.pp], run->tokens);
        if (r == 0)
            r = totals_sum(e);
        if (r == 0)
            r = totals_fetch(e);
        loss += r == 0 ? e->figures->totals.loss * e->loss_scale : 0;
    }
    e->evaluate = false;
    free(origin);
    TRY(r);
    json_t *record =
        json_pack("{s:s,s:I,s:o,s:I,s:f}", "kind", "eval", "step", (json_int_t)run->step, "loss",
                  log_real(loss / (double)batches), "tokens",
                  (json_int_t)(batches * p->batch.global * p->batch.seq), "time_s", now_s() - begin);
    return run_agree(run, log_write(&run->log, record));
}

/* ---- the loop ---- */

/* Before a step: what any rank was asked, and whether every rank has written its part of the save. */
struct news {
    bool stop, unwritten;
};

static void combine_news(void *into, const void *from, size_t bytes)
{
    struct news *all = into;
    const struct news *one = from;
    (void)bytes;
    all->stop |= one->stop;
    all->unwritten |= one->unwritten;
}

static int hear_news(struct run *run, struct news *news)
{
    *news = (struct news){stop_signalled(), !saves_written(run)};
    return host_all_reduce(comm_world(run->comm), news, sizeof *news, combine_news);
}

/* What went wrong on a device is not told by the ranks' messages: here is when. */
static int step_failed(const struct run *run)
{
    return run->agreed || comm_fault(run->comm) ? -1 : error_prefix("step %" PRId64, run->step);
}

static int measure_process(struct run *run)
{
    run->process_bytes = process_peak_bytes() - run->resident;
    return host_max(comm_world(run->comm), &run->process_bytes);
}

static int step_and_more(struct run *run)
{
    const struct train_options *o = run->o;
    halt_at("step");
    if (step_run(run) < 0)
        return step_failed(run);
    bool eval = run->eval && o->eval_every && run->step % o->eval_every == 0;
    bool keep = o->save && o->save_every && run->step % o->save_every == 0;
    if (eval)
        TRY(evaluate(run));
    if (keep)
        TRY(saves_begin(run));
    if (eval || keep)
        profile_start(&run->e.profile);
    return 0;
}

static int steps_until_stop(struct run *run)
{
    profile_start(&run->e.profile);
    while (run->step < run->o->steps) {
        struct news news;
        TRY(hear_news(run, &news));
        if (run->save_pending && !news.unwritten) {
            TRY(saves_end(run));
            profile_start(&run->e.profile);
        }
        if (news.stop) {
            run->status = STATUS_REQUEUE;
            return 0;
        }
        TRY(step_and_more(run));
    }
    return 0;
}

/* A run that ends with a failure all know of does not take the save that is under way with it. */
static int end_save_all_the_same(struct run *run)
{
    char text[700];
    enum status status = error_status();
    snprintf(text, sizeof text, "%s", error_text());
    if (run->agreed)
        saves_end(run);
    return error(status, "%s", text);
}

int run_steps(struct run *run)
{
    const struct train_options *o = run->o;
    if (run->step > o->steps)
        notice("--steps %" PRId64 " is below step %" PRId64 ", which the run is at: there is nothing to do",
               o->steps, run->step);
    if (steps_until_stop(run) < 0)
        return end_save_all_the_same(run);
    if (run->status == STATUS_REQUEUE && o->save)
        notice("stopped by a signal after step %" PRId64 ": --resume goes on from there", run->step);
    bool pending = run->save_pending && run->saving == run->step;
    if (o->save && run->saved != run->step && !pending)
        TRY(saves_begin(run));
    TRY(saves_end(run));
    TRY(measure_process(run));
    if (*run->failed_save.text) {
        if (run_is_first(run))
            error(STATUS_ENV, "the last checkpoint, of step %" PRId64 ", could not be saved", run->saving);
        return run_agree(run, run_is_first(run) ? -1 : 0);
    }
    if (run->status == STATUS_REQUEUE && !o->save) {
        error(STATUS_ENV,
              "stopped by a signal after step %" PRId64 "; nothing was saved, as there was no --save",
              run->step);
        return run_agree(run, -1);
    }
    return 0;
}
