/* SPDX-License-Identifier: MIT */
/* What a step asks of the host, by layout: how often it waits for the device, and that a step which has
 * diverged is over on the device before the host knows. Ranks of a job lie in one process (lib/simulated.h),
 * on a backend that counts. */
#include <math.h>

#include "base/file.h"
#include "engine/setup.h"
#include "lib/plans.h"
#include "lib/simulated.h"
#include "train/feed.h"
#include "train/step.h"

enum { RANKS = 4, MICROBATCHES = 2 };

/* Of one rank, since it was last cleared. */
struct counts {
    struct stream *s, *side;
    int downloads, syncs; /* the engine waits */
    int works;            /* communication's, of a kind that needs the host */
    int uploads;
};

static struct counts counts[RANKS];
static const struct backend *ref;

static struct counts *of(struct stream *s)
{
    for (int i = 0; i < RANKS; i++)
        if (counts[i].s == s || (s && counts[i].side == s))
            return &counts[i];
    fail_msg("a stream of no rank");
    return NULL;
}

static int count_download(struct stream *s, void *host, const void *src, size_t bytes)
{
    of(s)->downloads++;
    return ref->download(s, host, src, bytes);
}

static int count_sync(struct stream *s)
{
    of(s)->syncs++;
    return ref->sync(s);
}

static void count_work(struct stream *s, struct host_work *w)
{
    of(s)->works++;
    ref->host_work(s, w);
}

static void count_upload(struct stream *s, void *dst, const void *host, size_t bytes)
{
    of(s)->uploads++;
    ref->upload(s, dst, host, bytes);
}

static const struct backend *counting(void)
{
    static struct backend be;
    ref = backend_open("ref", 0, 1);
    assert_non_null(ref);
    be = *ref;
    be.download = count_download;
    be.sync = count_sync;
    be.host_work = count_work;
    be.upload = count_upload;
    return &be;
}

/* ---- a job of two steps, of which the second is counted, and of a third that diverges ---- */

struct job {
    struct plan plan;
    const char *data;
    int done;      /* ranks that came through */
    int unchanged; /* that kept what they had when the third step diverged */
};

static int start(struct run *run, struct sim_rank *r, struct job *j)
{
    run->comm = &r->comm;
    run->be = counting();
    run->stream = run->be->stream_new();
    counts[r->comm.rank] = (struct counts){.s = run->stream};
    TRY(comm_attach(run->comm, run->be));
    TRY(engine_init(&run->e, &run->plan, run->be, run->stream, run->comm));
    counts[r->comm.rank].side = run->e.side;
    TRY(engine_init_weights(&run->e, 1));
    feed_mark(run);
    run->data = data_open(j->data, run->plan.batch.seq, run->plan.model.vocab, 1, false);
    if (run->comm->rank == 0)
        run->loads = xcalloc((size_t)(run->plan.model.layers * run->e.E), sizeof *run->loads);
    return run->data ? 0 : -1;
}

static char *append(struct run *run, char *to, const void *part, size_t bytes)
{
    if (part && bytes)
        ref->download(run->stream, to, part, bytes);
    return part ? to + bytes : to;
}

/* Weights, and what the optimizer keeps, part by part. Caller frees. */
static char *kept(struct run *run, size_t *bytes)
{
    const struct memory *m = &run->e.arena.bytes;
    const struct shards *s = &run->e.shards;
    char *host = xmalloc((size_t)(m->weights + m->optimizer)), *to = host;
    for (int f = 0; f < FLATS; f++) {
        size_t unit = type_bytes(f == FLAT_BUFFER ? F32 : run->e.type);
        to = append(run, to, run->e.arena.weights[f], (size_t)s->padded[f] * unit);
        for (int i = 0; f < FLAT_BUFFER && i < STATES; i++)
            to = append(run, to, run->e.arena.state[i][f], (size_t)s->sliced[f] * sizeof(float));
    }
    *bytes = (size_t)(to - host);
    return host;
}

/* On one rank a weight is no number: on all of them the step has diverged. Where another rank is the one to
 * update that weight, it comes back from there; else it is put back. */
static bool diverges(struct run *run)
{
    size_t bytes;
    float good, nan = NAN, *weight = run->e.final_norm.w;
    char *before = kept(run, &bytes);
    ref->download(run->stream, &good, weight, sizeof good);
    if (run->comm->rank == 0)
        ref->upload(run->stream, weight, &nan, sizeof nan);
    int r = step_run(run);
    bool ok = r == -1 && error_status() == STATUS_NO && run->e.figures->update.skip == 1;
    ref->upload(run->stream, weight, &good, sizeof good);
    char *after = kept(run, &bytes);
    ok = ok && memcmp(before, after, bytes) == 0;
    error_clear();
    free(before);
    free(after);
    return ok;
}

static void rank_run(struct sim_rank *r, void *job)
{
    struct job *j = job;
    struct run *run = xcalloc(1, sizeof *run);
    *run = (struct run){.options = {.steps = 2}, .recipe = recipe_defaults, .plan = j->plan, .saved = -1};
    run->o = &run->options;
    run->recipe.bias_rate = 0.001;
    int ok = start(run, r, j);
    if (ok == 0)
        ok = step_run(run);
    struct counts *mine = &counts[r->comm.rank];
    *mine = (struct counts){.s = run->stream, .side = run->e.side};
    if (ok == 0)
        ok = step_run(run);
    struct counts counted = *mine;
    if (ok < 0)
        print_error("rank %d: %s\n", r->comm.rank, error_text());
    j->done += ok == 0;
    j->unchanged += ok == 0 && diverges(run);
    *mine = counted;
    engine_release(&run->e);
    data_close(run->data);
    free(run->want);
    free(run->tokens);
    free(run->loads);
    free(run);
}

/* ---- the layouts ---- */

#define SIZES                                                                                                  \
    "\"vocab_size\": 256, \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"          \
    "\"num_key_value_heads\": 2, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,"   \
    "\"max_position_embeddings\": 64, \"num_experts_per_tok\": 2, \"tie_word_embeddings\": false, "

/* one layer of two */
static const char half[] =
    "{\"model_type\": \"qwen3_moe\", " SIZES "\"num_experts\": 4, \"head_dim\": 8, \"intermediate_size\": 32,"
    "\"moe_intermediate_size\": 16, \"mlp_only_layers\": [0]}";
/* with a bias that changes with the loads */
static const char sparse[] =
    "{\"model_type\": \"glm4_moe\", " SIZES "\"n_routed_experts\": 4, \"n_shared_experts\": 1, \"head_dim\": 8,"
    "\"intermediate_size\": 32, \"moe_intermediate_size\": 16,"
    "\"first_k_dense_replace\": 0, \"n_group\": 1, \"topk_group\": 1,"
    "\"norm_topk_prob\": true, \"routed_scaling_factor\": 1.5}";

static const struct layout {
    const char *name, *model;
    struct axes axes;
    double capacity;
    int routes; /* downloads in a MoE layer and microbatch: how many rows go where, with ep > 1 */
} layouts[] = {
    {"half, one rank", half, {.dp = 1}, 0, 0},
    {"half, tp 2", half, {.tp = 2}, 0, 0},
    {"half, dp 2", half, {.dp = 2}, 0, 0},
    {"half, tp 2, dp 2", half, {.tp = 2, .dp = 2}, 0, 0},
    {"one rank", sparse, {.dp = 1}, 0, 0},
    {"one rank, dropping", sparse, {.dp = 1}, 1, 0},
    {"tp 2, dp 2, dropping", sparse, {.tp = 2, .ep = 1, .dp = 2}, 1, 0},
    {"ep 2, dp 4", sparse, {.ep = 2, .dp = 4}, 0, 1},
};

static struct plan plan_of(const struct layout *l, const char *config)
{
    struct request r = tiny;
    r.model = config;
    r.axes = l->axes;
    r.routing.capacity = l->capacity;
    int64_t dp = l->axes.dp ? l->axes.dp : 1;
    r.batch = (struct batch){.seq = 16, .micro = 1, .global = MICROBATCHES * dp};
    return made(r);
}

/* Of each rank: what a step tells comes down once, at its end, and where rows go, once a MoE layer and
 * microbatch; tokens and targets go up, and once what changes with the step. */
static void check(const struct layout *l, const char *config, const char *data)
{
    struct job j = {.plan = plan_of(l, config), .data = data};
    int world = j.plan.world, want = 1 + j.plan.model.moe_layers * MICROBATCHES * l->routes;
    assert_true(world <= RANKS);
    assert_int_equal(j.plan.batch.microbatches, MICROBATCHES);
    assert_true(simulate(world, world, false, rank_run, &j));
    assert_int_equal(j.done, world);
    assert_int_equal(j.unchanged, world);
    for (int i = 0; i < world; i++) {
        const struct counts *c = &counts[i];
        printf("# %s, rank %d: %d downloads, %d syncs, %d works of the host, %d uploads\n", l->name, i,
               c->downloads, c->syncs, c->works, c->uploads);
        if (c->downloads != want || c->syncs != 0)
            fail_msg("%s: rank %d waits %d times, not %d", l->name, i, c->downloads + c->syncs, want);
        if (c->uploads != 2 * MICROBATCHES + 1)
            fail_msg("%s: rank %d uploads %d times", l->name, i, c->uploads);
        if (world == 1 && c->works != 0)
            fail_msg("%s: one rank has %d works of the host", l->name, c->works);
    }
    plan_release(&j.plan);
}

static void few_waits(void **state)
{
    char dir[] = "/tmp/moekit-waits-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *config = path_join(dir, "config.json"), *data = path_join(dir, "text");
    FILE *f = fopen(data, "w");
    for (int i = 0; i < 4000; i++)
        fputc('a' + i * i % 23, f);
    assert_int_equal(fclose(f), 0);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        f = fopen(config, "w");
        fputs(layouts[i].model, f);
        assert_int_equal(fclose(f), 0);
        check(&layouts[i], config, data);
    }
    unlink(config);
    unlink(data);
    rmdir(dir);
    free(config);
    free(data);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_waits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
