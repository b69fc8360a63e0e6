/* SPDX-License-Identifier: MIT */
/* The run: steps, log, evaluation, checkpoints, stop. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/notice.h"
#include "base/num.h"
#include "train/hosts.h"
#include "train/run.h"

static volatile sig_atomic_t stop_requested;

void train_request_stop(void)
{
    stop_requested = 1;
}

/* What each rank contributes to a step's figures before the update. */
struct share {
    double square, loss, aux, z, dropped, overflow;
};

/* ---- one step ---- */

static void clear_totals(struct engine *e)
{
    float *loads = e->totals.loads;
    memset(loads, 0, (size_t)e->moe_layers * (size_t)e->E * sizeof *loads);
    e->totals = (struct totals){.loads = loads};
}

/* Sums everyone's share. Each figure is counted on one rank of those that all know it. */
static int gather_shares(struct run *run, double square, struct share *sum)
{
    const struct engine *e = &run->e;
    const struct totals *t = &e->totals;
    bool tp0 = e->at.tp == 0;
    struct share mine = {.square = square,
                         .loss = tp0 ? t->loss : 0,
                         .aux = tp0 ? t->aux : 0,
                         .z = tp0 ? t->z : 0,
                         .dropped = tp0 ? t->dropped : 0,
                         .overflow = e->at.ep == 0 && e->at.etp == 0 ? t->overflow : 0};
    struct share *all = xcalloc((size_t)run->plan.world, sizeof *all);
    int r = host_gather(comm_world(run->comm), &mine, all, sizeof mine);
    *sum = (struct share){0};
    for (int i = 0; i < run->plan.world; i++) {
        const struct coords *at = &run->plan.ranks[i];
        if (!(fault("norm-missing-pp") && at->pp != e->at.pp) &&
            !(fault("norm-missing-tp") && at->tp != e->at.tp) &&
            !(fault("norm-missing-dp") && at->dp != e->at.dp))
            sum->square += all[i].square;
        sum->loss += all[i].loss;
        sum->aux += all[i].aux;
        sum->z += all[i].z;
        sum->dropped += all[i].dropped;
        sum->overflow += all[i].overflow;
    }
    free(all);
    return r;
}

static int dump_gradients(struct run *run)
{
    struct rank_state s = run_state(run);
    return checkpoint_save_gradients(&s, run->comm, run->e.arena.grad, run->o->dump_gradients);
}

/* Phases of the step so far from every rank, to rank 0's log. */
static int report_step(struct run *run, const struct share *sum, double norm, double lr)
{
    struct engine *e = &run->e;
    const struct plan *p = &run->plan;
    profile_enter(&e->profile, PHASE_IDLE);
    double mine[PHASES + 1], now = e->profile.since_s;
    memcpy(mine, e->profile.spent_s, sizeof e->profile.spent_s);
    mine[PHASES] = (double)e->arena.bytes.total;
    memset(e->profile.spent_s, 0, sizeof e->profile.spent_s);
    double *all = xcalloc((size_t)p->world, sizeof mine),
           *phase = xcalloc((size_t)p->world, PHASES * sizeof(double));
    double *bytes = xcalloc((size_t)p->world, sizeof *bytes);
    int r = host_gather(comm_world(run->comm), mine, all, sizeof mine);
    if (r == 0)
        r = loads_collect(e, run->loads);
    if (r == 0 && run_is_first(run)) {
        for (int i = 0; i < p->world; i++) {
            memcpy(phase + i * PHASES, all + i * (PHASES + 1), PHASES * sizeof *phase);
            bytes[i] = all[i * (PHASES + 1) + PHASES];
        }
        int64_t every = run->o->loads_every;
        struct step_report report = {.step = run->step,
                                     .tokens = p->batch.global * p->batch.seq,
                                     .loss = sum->loss * e->loss_scale,
                                     .aux = sum->aux * e->aux_scale,
                                     .z = sum->z * e->aux_scale,
                                     .grad_norm = norm,
                                     .lr = lr,
                                     .time_s = now - run->mark_s,
                                     .dropped = sum->dropped,
                                     .overflow = sum->overflow,
                                     .phase_s = phase,
                                     .arena_bytes = bytes,
                                     .loads = run->loads,
                                     .with_loads =
                                         every && (run->step % every == 0 || run->step == run->o->steps)};
        r = log_write(&run->log, log_step_record(e, &report));
        progress("step", (uint64_t)run->step, (uint64_t)run->o->steps, "steps");
    }
    run->mark_s = now;
    free(all);
    free(phase);
    free(bytes);
    return r;
}

static int one_step(struct run *run)
{
    struct engine *e = &run->e;
    const struct recipe *r = &run->recipe;
    const struct program *program = &run->plan.programs[e->at.pp];
    e->step = ++run->step;
    clear_totals(e);
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
    struct share sum;
    profile_enter(&e->profile, PHASE_OPTIMIZER);
    TRY(gradients_square(e, &square));
    profile_enter(&e->profile, PHASE_IDLE);
    TRY(gather_shares(run, square, &sum));
    TRY(loads_sum(e));
    double norm = sqrt(sum.square), lr = recipe_lr(r, run->step, run->o->steps);
    if (!isfinite(sum.loss) || !isfinite(norm)) {
        report_step(run, &sum, norm, lr);
        error(STATUS_NO, "step %" PRId64 ": the %s is not finite: the run has diverged (%s)", run->step,
              isfinite(sum.loss) ? "gradient norm" : "loss",
              run->saved >= 0 ? "the last checkpoint is untouched" : "no checkpoint was written");
        return run_agree(run, -1);
    }
    double clip = r->clip > 0 ? fmin(1, r->clip / (norm + 1e-6)) : 1;
    struct hyper hyper = {lr, r->beta1, r->beta2, r->eps, r->weight_decay};
    TRY(optimizer_update(e, &hyper, run->step, clip));
    TRY(loads_update_bias(e, r->bias_rate));
    return report_step(run, &sum, norm, lr);
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
        clear_totals(e);
        struct share sum;
        r = run_agree(run, data_next(run->eval, p->batch.global, run->want, run->tokens));
        if (r == 0)
            r = pipeline_run(e, &p->programs[e->at.pp], run->tokens);
        if (r == 0)
            r = gather_shares(run, 0, &sum);
        loss += r == 0 ? sum.loss * e->loss_scale : 0;
    }
    e->evaluate = false;
    free(origin);
    TRY(r);
    json_t *record =
        json_pack("{s:s,s:I,s:o,s:I,s:f}", "kind", "eval", "step", (json_int_t)run->step, "loss",
                  log_real(loss / (double)batches), "tokens",
                  (json_int_t)(batches * p->batch.global * p->batch.seq), "time_s", now_s() - begin);
    return log_write(&run->log, record);
}

/* ---- checkpoints ---- */

static int save(struct run *run)
{
    struct rank_state s = run_state(run);
    char *text = run_state_text(run);
    int64_t bytes = 0;
    double begin = now_s();
    int r = checkpoint_save(&s, run->comm, run->o->save, run->step, text, &bytes);
    free(text);
    if (r < 0)
        return run_agree(run, r);
    run->saved = run->step;
    if (run_is_first(run)) {
        char *path = xasprintf("%s/step-%08" PRId64, run->o->save, run->step);
        r = log_write(&run->log,
                      json_pack("{s:s,s:I,s:s,s:I,s:f}", "kind", "save", "step", (json_int_t)run->step, "path",
                                path, "bytes", (json_int_t)bytes, "time_s", now_s() - begin));
        free(path);
        if (r == 0 && run->o->keep > 0)
            r = checkpoint_prune(run->o->save, (int)run->o->keep);
    }
    return run_agree(run, r);
}

/* Whether any rank was asked to stop. */
static int stopping(struct run *run, bool *stop)
{
    int64_t asked = stop_requested;
    TRY(host_max(comm_world(run->comm), &asked));
    *stop = asked != 0;
    return 0;
}

static int measure_process(struct run *run)
{
    run->process_bytes = process_peak_bytes() - run->resident;
    return host_max(comm_world(run->comm), &run->process_bytes);
}

static int steps(struct run *run)
{
    const struct train_options *o = run->o;
    profile_start(&run->e.profile);
    run->mark_s = run->e.profile.since_s;
    while (run->step < o->steps) {
        bool stop;
        TRY(stopping(run, &stop));
        if (stop) {
            run->status = STATUS_REQUEUE;
            break;
        }
        TRY(one_step(run));
        bool eval = run->eval && o->eval_every && run->step % o->eval_every == 0;
        bool keep = o->save && o->save_every && run->step % o->save_every == 0;
        if (eval)
            TRY(evaluate(run));
        if (keep)
            TRY(save(run));
        if (eval || keep) {
            profile_start(&run->e.profile);
            run->mark_s = run->e.profile.since_s;
        }
    }
    if (o->save && run->saved != run->step)
        TRY(save(run));
    TRY(measure_process(run));
    if (run->status == STATUS_REQUEUE && !o->save) {
        error(STATUS_ENV,
              "stopped by a signal after step %" PRId64 "; nothing was saved, as there was no --save",
              run->step);
        return run_agree(run, -1);
    }
    return 0;
}

/* Rank 0's last words; what failed on it alone is a fault. */
static int finish(struct run *run, int r)
{
    static const char *const reason[] = {"done", "diverged", "bad input", "the environment failed"};
    enum status s = r < 0 ? error_status() : run->status;
    char reason_text[512];
    snprintf(reason_text, sizeof reason_text, "%s", error_text());
    json_t *end = json_pack(
        "{s:s,s:I,s:i,s:s,s:I,s:I}", "kind", "end", "step", (json_int_t)run->step, "status", (int)s, "reason",
        s == STATUS_REQUEUE ? "stopped by a signal, checkpointed" : reason[s], "arena_bytes",
        (json_int_t)run->e.arena.bytes.total, "process_bytes", (json_int_t)run->process_bytes);
    int w = 0;
    if (r < 0 && !run->agreed)
        w = log_write(&run->log, json_pack("{s:s,s:I,s:i,s:s,s:s,s:s}", "kind", "fault", "step",
                                           (json_int_t)run->step, "rank", run->e.rank, "host", run->host,
                                           "device", run->be->name, "reason", reason_text));
    w |= log_write(&run->log, end);
    int c = log_close(&run->log);
    return r < 0 || w < 0 || c < 0 ? -1 : 0;
}

static int report_dry_run(struct run *run)
{
    const struct memory *m = &run->e.arena.bytes;
    struct memory *all = xcalloc((size_t)run->plan.world, sizeof *all);
    int r = host_gather(comm_world(run->comm), m, all, sizeof *m);
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
    engine_release(&run->e);
    data_close(run->data);
    data_close(run->eval);
    plan_release(&run->plan);
    if (run->routing)
        fclose(run->routing);
    free(run->tokens);
    free(run->want);
    free(run->companions);
    free(run->loads);
}

enum status train_run(const struct train_options *o, struct comm **comm, bool *broken)
{
    struct run run = {.o = o, .recipe = o->recipe, .saved = -1, .threads = hosts_threads(o->threads)};
    *comm = NULL;
    *broken = false;
    run.be = backend_open(strcmp(o->backend, "auto") == 0 ? "cpu" : o->backend, run.threads);
    if (!run.be)
        return error_status();
    run.stream = run.be->stream_new();
    run.comm = *comm = comm_open(o->comm, run.be, run.stream);
    if (!run.comm)
        return error_status();
    comm_set_timeout(run.comm, o->timeout_s);
    if (comm_rank(run.comm) > 0)
        notice_open("moe-train", NOTICE_QUIET, 0); /* the first rank speaks for all */
    error_clear();
    int r = run_start(&run);
    if (r == 0)
        r = o->dry_run ? report_dry_run(&run) : steps(&run);
    *broken = r < 0 && !run.agreed && comm_size(run.comm) > 1; /* failed alone: the others still wait */
    if (run.log.f && finish(&run, r) < 0)
        r = -1;
    enum status s = r < 0 ? error_status() : run.status;
    release(&run);
    return s;
}
