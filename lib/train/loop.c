/* SPDX-License-Identifier: MIT */
/* The run: start, steps, log, evaluation, checkpoints, stop. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/notice.h"
#include "base/num.h"
#include "ckpt/checkpoint.h"
#include "train/data.h"
#include "train/hosts.h"
#include "train/log.h"
#include "train/train.h"

static volatile sig_atomic_t stop_requested;

void train_request_stop(void)
{
    stop_requested = 1;
}

struct run {
    const struct train_options *o;
    struct recipe recipe;
    struct plan plan;
    const struct backend *be;
    struct stream *stream;
    struct comm *comm;
    struct engine e;
    struct data *data, *eval;
    struct log log;
    int threads, hosts;
    int64_t step;  /* last one done */
    int64_t saved; /* last one saved, or -1 */
    int64_t start_step;
    int32_t *tokens;  /* this dp rank's part of a step */
    bool *want;       /* which samples of a step this rank reads */
    char *companions; /* directory whose side files travel along */
    float *loads;     /* rank 0: [MoE layers,E] of the step */
    double mark_s;    /* end of the last step, for time_s */
    FILE *routing;
    bool agreed;           /* a failure that all ranks know of */
    int64_t resident;      /* bytes of this process before the engine was there */
    int64_t process_bytes; /* rank 0, at the end: the most any rank has grown by since then */
    enum status status;    /* how it ends */
};

/* What each rank contributes to a step's figures before the update. */
struct share {
    double square, loss, aux, z, dropped, overflow;
};

/* All ranks agree on the worst status; the first rank with it keeps its text, the others' is emptied. 0 or -1.
 */
static int agree(struct run *run, int r)
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

static bool first_rank(const struct run *run)
{
    return comm_rank(run->comm) == 0;
}

/* ---- start ---- */

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

static int open_data(struct run *run)
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

static struct rank_state state_of(struct run *run)
{
    const struct arena *a = &run->e.arena;
    struct rank_state s = {.plan = &run->plan,
                           .shards = &run->e.shards,
                           .rank = run->e.rank,
                           .be = run->be,
                           .stream = run->stream,
                           .companions = run->companions};
    for (int f = 0; f < FLATS; f++)
        s.weights[f] = a->weights[f];
    for (int f = 0; f < 2; f++) {
        s.master[f] = a->master[f];
        s.exp_avg[f] = a->exp_avg[f];
        s.exp_avg_sq[f] = a->exp_avg_sq[f];
    }
    return s;
}

/* ---- state.json: step, data position, recipe ---- */

static char *state_text(struct run *run)
{
    int sources = data_sources(run->data);
    int64_t *given = xcalloc((size_t)sources, sizeof *given);
    data_tell(run->data, given);
    json_t *list = json_array();
    for (int i = 0; i < sources; i++)
        json_array_append_new(list, json_integer(given[i]));
    free(given);
    char *recipe = recipe_json(&run->recipe);
    json_t *o =
        json_pack("{s:I,s:{s:I,s:o},s:o}", "step", (json_int_t)run->step, "data", "identity",
                  (json_int_t)data_identity(run->data), "given", list, "recipe", json_loads(recipe, 0, NULL));
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(o);
    free(recipe);
    return text;
}

static int restore_position(struct run *run, struct json_doc *d)
{
    const json_t *data = json_object_get(d->root, "data"), *list = json_object_get(data, "given");
    int sources = (int)json_array_size(list);
    int64_t identity = -1;
    TRY(json_need_int(d, d->root, "step", 0, INT64_MAX, &run->step));
    if (data)
        TRY(json_need_int(d, data, "identity", 0, UINT32_MAX, &identity));
    if (identity != data_identity(run->data) || sources != data_sources(run->data)) {
        notice("the data, its weights, the sequence length or the seed are not the checkpoint's: the stream "
               "starts anew");
        return 0;
    }
    int64_t *given = xcalloc((size_t)sources, sizeof *given);
    for (int i = 0; i < sources; i++)
        given[i] = json_integer_value(json_array_get(list, (size_t)i));
    int r = data_seek(run->data, given, sources);
    free(given);
    return r;
}

/* The seed decides the data's order, so the recipe comes before the data is opened. */
static int load_checkpoint(struct run *run, const char *dir, char **text)
{
    struct rank_state s = state_of(run);
    TRY(checkpoint_load(&s, dir, text));
    return recipe_restore(&run->recipe, *text, dir);
}

static int continue_from(struct run *run, const char *dir, const char *text)
{
    struct json_doc d;
    TRY(json_open(&d, text, strlen(text), dir));
    int r = restore_position(run, &d);
    json_close(&d);
    return r;
}

/* What --resume names: a step directory; the newest one under a root (caller frees), or NULL when there is
 * none. */
static int resume_directory(const char *path, char **dir)
{
    *dir = NULL;
    char *manifest = path_join(path, "manifest.json");
    bool is_step = file_exists(manifest);
    free(manifest);
    if (is_step) {
        *dir = xstrdup(path);
        return 0;
    }
    const char *base = strrchr(path, '/');
    if (!is_dir(path) && strncmp(base ? base + 1 : path, "step-", 5) == 0)
        return error(STATUS_USAGE, "no checkpoint '%s'", path);
    int64_t step;
    *dir = checkpoint_newest(path, &step);
    return !*dir && error_status() != STATUS_DONE ? -1 : 0;
}

static int first_weights(struct run *run)
{
    if (!run->o->init)
        return engine_init_weights(&run->e, (uint64_t)run->recipe.seed);
    struct rank_state s = state_of(run);
    run->companions = xstrdup(run->o->init);
    return checkpoint_import(&s, run->o->init);
}

static int load_state(struct run *run)
{
    char *dir = NULL, *text = NULL;
    if (run->o->resume)
        TRY(resume_directory(run->o->resume, &dir));
    if (run->o->resume && !dir && first_rank(run))
        notice("no checkpoint under '%s': starting from step 0", run->o->resume);
    int r = dir ? load_checkpoint(run, dir, &text) : first_weights(run);
    if (r == 0)
        r = open_data(run);
    if (r == 0 && dir)
        r = continue_from(run, dir, text);
    if (r == 0 && dir && first_rank(run))
        notice("resumed from '%s' at step %" PRId64, dir, run->step);
    if (dir)
        run->companions = dir;
    free(text);
    run->saved = dir ? run->step : -1;
    return r;
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

static int start(struct run *run)
{
    const struct train_options *o = run->o;
    TRY(agree(run, read_plan(run)));
    TRY(agree(run, choose_backend(run)));
    TRY(agree(run, hosts_check(run->comm, &run->plan, strcmp(o->placement, "warn") == 0, &run->hosts)));
    run->resident = process_resident_bytes();
    TRY(agree(run, engine_init(&run->e, &run->plan, run->be, run->stream, run->comm)));
    if (o->dry_run)
        return 0;
    mark_samples(run);
    TRY(agree(run, load_state(run)));
    run->start_step = run->step;
    apply_recipe(run);
    run->e.logits_path = o->dump_logits;
    if (first_rank(run)) {
        run->loads = xcalloc((size_t)(run->plan.model.moe_layers * run->e.E), sizeof *run->loads);
        TRY(log_open(&run->log, o->log));
        TRY(log_write(&run->log, log_start_record(&run->e, o, run->step, run->threads, run->hosts)));
    }
    return 0;
}

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
    struct rank_state s = state_of(run);
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
    if (r == 0 && first_rank(run)) {
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
    TRY(agree(run, data_next(run->data, run->plan.batch.global, run->want, run->tokens)));
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
        return agree(run, -1);
    }
    double clip = r->clip > 0 ? fmin(1, r->clip / (norm + 1e-6)) : 1;
    struct hyper hyper = {lr, r->beta1, r->beta2, r->eps, r->weight_decay, r->clip};
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
        r = agree(run, data_next(run->eval, p->batch.global, run->want, run->tokens));
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
    struct rank_state s = state_of(run);
    char *text = state_text(run);
    int64_t bytes = 0;
    double begin = now_s();
    int r = checkpoint_save(&s, run->comm, run->o->save, run->step, text, &bytes);
    free(text);
    if (r < 0)
        return agree(run, r);
    run->saved = run->step;
    if (first_rank(run)) {
        char *path = xasprintf("%s/step-%08" PRId64, run->o->save, run->step);
        r = log_write(&run->log,
                      json_pack("{s:s,s:I,s:s,s:I,s:f}", "kind", "save", "step", (json_int_t)run->step, "path",
                                path, "bytes", (json_int_t)bytes, "time_s", now_s() - begin));
        free(path);
        if (r == 0 && run->o->keep > 0)
            r = checkpoint_prune(run->o->save, (int)run->o->keep);
    }
    return agree(run, r);
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
        return agree(run, -1);
    }
    return 0;
}

static int finish(struct run *run, int r)
{
    static const char *const reason[] = {"done", "diverged", "bad input", "the environment failed"};
    enum status s = r < 0 ? error_status() : run->status;
    json_t *end = json_pack(
        "{s:s,s:I,s:i,s:s,s:I,s:I}", "kind", "end", "step", (json_int_t)run->step, "status", (int)s, "reason",
        s == STATUS_REQUEUE ? "stopped by a signal, checkpointed" : reason[s], "arena_bytes",
        (json_int_t)run->e.arena.bytes.total, "process_bytes", (json_int_t)run->process_bytes);
    int w = log_write(&run->log, end);
    int c = log_close(&run->log);
    return r < 0 || w < 0 || c < 0 ? -1 : 0;
}

static int report_dry_run(struct run *run)
{
    const struct memory *m = &run->e.arena.bytes;
    struct memory *all = xcalloc((size_t)run->plan.world, sizeof *all);
    int r = host_gather(comm_world(run->comm), m, all, sizeof *m);
    if (r == 0 && first_rank(run)) {
        printf("#rank\tstage\tweights\tgradients\toptimizer\tactivations\tworkspace\ttotal\n");
        for (int i = 0; i < run->plan.world; i++)
            printf("%d\t%d\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\n", i,
                   run->plan.ranks[i].pp, all[i].weights, all[i].gradients, all[i].optimizer,
                   all[i].activations, all[i].workspace, all[i].total);
    }
    free(all);
    return agree(run, r);
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
    int r = start(&run);
    if (r == 0)
        r = o->dry_run ? report_dry_run(&run) : steps(&run);
    *broken = r < 0 && !run.agreed && comm_size(run.comm) > 1; /* failed alone: the others still wait */
    if (run.log.f && finish(&run, r) < 0)
        r = -1;
    enum status s = r < 0 ? error_status() : run.status;
    release(&run);
    return s;
}
