/* SPDX-License-Identifier: MIT */
/* Gradients against finite differences: through attention, router, dropping, shared experts, auxiliary losses.
 *
 * The reference is arithmetic alone: one weight is moved to either side, the step is run, and the slope of
 *     L = loss / (tokens of the batch) + (sum of the router losses) / microbatches
 * is compared with what the engine left in arena.grad. The slope is of fourth order,
 * (8(L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h. A step is only run to compare if it routes and drops exactly as
 * the unmoved model does: choices and drops have no gradient.
 *
 * What can be expected. L is about 5 and carries the rounding of f32, averaged over tokens: some 1e-7. With h =
 * 8e-3 the slope's noise is then about 1e-5, and its truncation is h^4 times a fifth derivative. Gradients of
 * single weights are 1e-3 to 1, so errors are taken relative to the largest gradient in the tensor: TOLERANCE
 * of it, or NOISE. Where the tokens go elsewhere a quarter of h is tried, with four times the noise. A slope on
 * which h and h/2 do not agree says nothing and is passed over; enough must say something. A clipped projection
 * (OLMoE) has corners, where the gradient is one side's: there one slope of each kind of tensor may be off. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "check/runnable.h"
#include "choose/make.h"
#include "engine/buckets.h"
#include "engine/engine.h"
#include "engine/pipeline.h"
#include "engine/setup.h"
#include "engine/totals.h"

#define TOLERANCE 2e-3
#define NOISE     3e-5
#define STEP      8e-3
#define ELEMENTS  3 /* of each tensor, of an expert 2: the largest gradient, and others at random */

#define SIZES                                                                                                  \
    "\"vocab_size\": 37, \"hidden_size\": 16, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"           \
    "\"num_key_value_heads\": 2, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,"   \
    "\"max_position_embeddings\": 64, \"num_experts_per_tok\": 2,"

static const char *const mixtral =
    "{\"model_type\": \"mixtral\", " SIZES
    "\"num_local_experts\": 4, \"intermediate_size\": 12, \"tie_word_embeddings\": false}";
static const char *const qwen2_moe =
    "{\"model_type\": \"qwen2_moe\", " SIZES
    "\"num_experts\": 4, \"intermediate_size\": 20, \"moe_intermediate_size\": 12,"
    "\"shared_expert_intermediate_size\": 14, \"norm_topk_prob\": false, \"tie_word_embeddings\": false}";
static const char *const qwen3_moe =
    "{\"model_type\": \"qwen3_moe\", " SIZES "\"num_experts\": 4, \"head_dim\": 8, \"intermediate_size\": 20,"
    "\"moe_intermediate_size\": 12, \"norm_topk_prob\": true, \"mlp_only_layers\": [1], "
    "\"tie_word_embeddings\": true}";
static const char *const olmoe =
    "{\"model_type\": \"olmoe\", " SIZES "\"num_experts\": 4, \"intermediate_size\": 12,"
    "\"norm_topk_prob\": false, \"clip_qkv\": 2.5, \"attention_bias\": true, \"tie_word_embeddings\": false}";
static const char *const glm4_moe =
    "{\"model_type\": \"glm4_moe\", " SIZES "\"n_routed_experts\": 8, \"n_shared_experts\": 1, \"head_dim\": 8,"
    "\"intermediate_size\": 20, \"moe_intermediate_size\": 12, \"first_k_dense_replace\": 0, \"n_group\": 2, "
    "\"topk_group\": 1,"
    "\"norm_topk_prob\": true, \"routed_scaling_factor\": 1.5, \"attention_bias\": true, \"use_qk_norm\": true,"
    "\"partial_rotary_factor\": 0.5, \"tie_word_embeddings\": false}";

struct bench {
    struct plan plan;
    struct engine e;
    const struct backend *be;
    struct stream *s;
    struct comm *comm;
    int32_t *tokens;
    float *grad[2]; /* of the unmoved model */
    int32_t *route; /* its choices and drops */
    size_t route_count;
    uint64_t random;
};

static double uniform(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return ((double)(b->random >> 11) + 0.5) * 0x1p-53;
}

static double normal(struct bench *b)
{
    double r = sqrt(-2 * log(uniform(b)));
    return r * cos(6.283185307179586 * uniform(b));
}

static float *weights_of(struct bench *b, const struct shard *h)
{
    return (float *)b->e.arena.weights[h->flat] + h->offset;
}

static const struct tensor *tensor_of(struct bench *b, const struct shard *h)
{
    return &b->plan.inventory.tensors[h->tensor];
}

/* Wide weights, biases and norms too, so that no term of the gradient is small by luck; routers wider still. */
static void randomise(struct bench *b)
{
    for (int i = 0; i < b->e.shards.count; i++) {
        const struct shard *h = &b->e.shards.list[i];
        const struct tensor *t = tensor_of(b, h);
        double mean = t->ones ? 1 : 0, std = t->kind == T_ROUTER        ? 0.6
                                             : t->ones                  ? 0.2
                                             : t->kind == T_ROUTER_BIAS ? 0.1
                                                                        : 0.3;
        int64_t n = h->rows * h->cols;
        float *x = xmalloc((size_t)n * 4);
        for (int64_t k = 0; k < n; k++)
            x[k] = (float)(mean + std * normal(b));
        b->be->upload(b->s, weights_of(b, h), x, (size_t)n * 4);
        free(x);
    }
}

/* What the step before left, and more: a gradient that is added to it would show. */
static void spoil_gradients(struct bench *b)
{
    for (int i = 0; i < b->e.shards.count; i++) {
        const struct shard *h = &b->e.shards.list[i];
        int64_t n = h->rows * h->cols;
        float *x = xmalloc((size_t)n * 4);
        for (int64_t k = 0; k < n; k++)
            x[k] = NAN;
        if (h->flat != FLAT_BUFFER)
            b->be->upload(b->s, b->e.arena.grad[h->flat] + h->offset, x, (size_t)n * 4);
        free(x);
    }
}

/* One step, gradients included: L. */
static double run(struct bench *b)
{
    struct engine *e = &b->e;
    const struct totals *t = &e->figures->totals;
    totals_clear(e);
    spoil_gradients(b);
    gradients_begin(e);
    if (pipeline_run(e, &b->plan.programs[0], b->tokens) < 0 || totals_fetch(e) < 0)
        fail_msg("%s", error_text());
    double losses = 0;
    for (int i = 0; i < ROUTER_LOSSES; i++)
        losses += t->router_loss[i];
    return t->loss * e->loss_scale + losses * e->aux_scale;
}

/* Choices and places of all microbatches: the schedule is gpipe, so that each has a stash of its own. */
static void routing(struct bench *b, int32_t *out)
{
    size_t n = (size_t)(b->e.n * b->e.K);
    for (int i = 0; i < b->e.arena.stash_count; i++)
        for (int l = 0; l < b->plan.model.layers; l++) {
            const struct acts *a = &b->e.arena.stashes[i].acts[l];
            if (!b->plan.model.moe[l])
                continue;
            assert_int_equal(b->be->download(b->s, out, a->topk, n * 4), 0);
            assert_int_equal(b->be->download(b->s, out + n, a->position, n * 4), 0);
            out += 2 * n;
        }
}

static void open_bench(struct bench *b, const char *backend, const char *config, struct request r)
{
    char path[] = "/tmp/moekit-gradients-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, config, strlen(config)), strlen(config));
    close(fd);
    r.model = path;
    r.precision = "f32";
    r.schedule = "gpipe";
    r.zero = -1;
    r.batch = (struct batch){.seq = 8, .micro = 2, .global = 4};
    int ok = plan_make(&b->plan, &r);
    unlink(path);
    if (ok < 0 || plan_runnable(&b->plan) < 0)
        fail_msg("%s", error_text());
    b->be = backend_open(backend, 0, 1);
    b->s = b->be->stream_new();
    b->comm = comm_open("self");
    if (comm_attach(b->comm, b->be) < 0 || engine_init(&b->e, &b->plan, b->be, b->s, b->comm) < 0)
        fail_msg("%s", error_text());
    b->random = 12345;
    for (int i = 0; i < ROUTER_LOSSES; i++) /* so that they weigh as much as the loss itself */
        b->e.loss_coef[i] = i == LOSS_Z ? 0.1 : 0.5;
    randomise(b);
    int64_t count = b->plan.batch.global * (b->plan.batch.seq + 1);
    b->tokens = xmalloc((size_t)count * sizeof *b->tokens);
    for (int64_t i = 0; i < count; i++)
        b->tokens[i] = (int32_t)(uniform(b) * (double)b->plan.model.vocab);
    assert_int_equal(b->e.arena.stash_count, b->plan.batch.microbatches);
    b->route_count =
        2 * (size_t)(b->e.n * b->e.K) * (size_t)(b->plan.model.moe_layers * b->e.arena.stash_count);
    b->route = xmalloc(b->route_count * sizeof *b->route);
    run(b);
    routing(b, b->route);
    for (int f = 0; f < 2; f++) {
        size_t bytes = (size_t)b->e.shards.padded[f] * 4;
        b->grad[f] = xmalloc(bytes + 4);
        assert_int_equal(b->be->download(b->s, b->grad[f], b->e.arena.grad[f], bytes), 0);
    }
}

static void close_bench(struct bench *b)
{
    engine_release(&b->e);
    comm_close(b->comm);
    b->be->stream_free(b->s);
    plan_release(&b->plan);
    free(b->tokens);
    free(b->route);
    free(b->grad[0]);
    free(b->grad[1]);
}

/* L with one weight at `value`; false if the tokens then go elsewhere. */
static bool loss_at(struct bench *b, float *weight, float value, double *loss)
{
    int32_t *now = xmalloc(b->route_count * sizeof *now);
    b->be->upload(b->s, weight, &value, 4);
    *loss = run(b);
    routing(b, now);
    bool same = memcmp(now, b->route, b->route_count * sizeof *now) == 0;
    free(now);
    return same;
}

/* dL/dw; false if the model routes differently within the steps. `half` likewise with half the step. */
static bool slope(struct bench *b, float *weight, double step, double *full, double *half)
{
    static const double at[6] = {-2, -1, -0.5, 0.5, 1, 2};
    double loss[6], moved[6];
    float w;
    bool same = true;
    assert_int_equal(b->be->download(b->s, &w, weight, 4), 0);
    for (int i = 0; i < 6 && same; i++) {
        float value = (float)(w + at[i] * step);
        moved[i] = (double)value - w; /* what f32 made of it */
        same = loss_at(b, weight, value, &loss[i]);
    }
    b->be->upload(b->s, weight, &w, 4);
    if (!same)
        return false;
    double far = (loss[5] - loss[0]) / (moved[5] - moved[0]),
           near = (loss[4] - loss[1]) / (moved[4] - moved[1]),
           nearest = (loss[3] - loss[2]) / (moved[3] - moved[2]);
    *full = (4 * near - far) / 3;
    *half = (4 * nearest - near) / 3;
    return true;
}

struct tally {
    int judged, rerouted, rough, corners;
    double worst; /* error over what is allowed */
    char where[160];
};

static void judge(struct bench *b, const struct shard *h, int64_t element, double largest, struct tally *t)
{
    double full, half, got = b->grad[h->flat][h->offset + element], noise = NOISE;
    char name[128];
    if (!slope(b, weights_of(b, h) + element, STEP, &full, &half)) {
        noise = 4 * NOISE;
        if (!slope(b, weights_of(b, h) + element, STEP / 4, &full, &half)) {
            t->rerouted++;
            return;
        }
    }
    double allowed = fmax(TOLERANCE * largest, noise), error = fabs(full - got);
    if (!(fabs(full - half) <= allowed / 2)) {
        t->rough++;
        return;
    }
    t->judged++;
    tensor_name(b->e.model, tensor_of(b, h), name);
    if (error / allowed > t->worst && error <= allowed) {
        t->worst = error / allowed;
        snprintf(t->where, sizeof t->where, "%s[%d]", name, (int)element);
    }
    if (error <= allowed)
        return;
    if (b->plan.model.clip_qkv > 0 && t->corners++ == 0)
        return;
    fail_msg("%s[%d]: slope %.6g (%.6g with half the step), gradient %.6g, largest in the tensor %.3g", name,
             (int)element, full, half, got, largest);
}

static void judge_tensor(struct bench *b, const struct shard *h, struct tally *t)
{
    const float *g = b->grad[h->flat] + h->offset;
    int64_t n = h->rows * h->cols, top = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabsf(g[i]) > fabsf(g[top]))
            top = i;
    double largest = fabsf(g[top]);
    judge(b, h, top, largest, t);
    for (int i = 1; i < (tensor_of(b, h)->expert < 0 ? ELEMENTS : 2); i++)
        judge(b, h, (int64_t)(uniform(b) * (double)n), largest, t);
}

static void check(const char *backend, const char *config, struct request r)
{
    struct bench b = {0};
    struct tally t[TENSOR_KINDS] = {0}, all = {0};
    open_bench(&b, backend, config, r);
    if (r.routing.capacity > 0)
        assert_true(b.e.figures->totals.dropped > 0);
    for (int i = 0; i < b.e.shards.count; i++) {
        const struct shard *h = &b.e.shards.list[i];
        if (h->flat != FLAT_BUFFER)
            judge_tensor(&b, h, &t[tensor_of(&b, h)->kind]);
    }
    for (int k = 0; k < TENSOR_KINDS; k++) {
        int tried = t[k].judged + t[k].rerouted + t[k].rough;
        if (tried && (t[k].judged < 1 || t[k].judged < tried / 4))
            fail_msg("tensors of kind %d: only %d of %d slopes could be judged", k, t[k].judged, tried);
        all.judged += t[k].judged;
        all.rerouted += t[k].rerouted;
        all.rough += t[k].rough;
        all.corners += t[k].corners;
        if (t[k].worst > all.worst) {
            all.worst = t[k].worst;
            memcpy(all.where, t[k].where, sizeof all.where);
        }
    }
    fprintf(stderr,
            "# %s, %s%s: %d slopes judged, %d rerouted, %d rough, %d at corners; worst %.2f of what is "
            "allowed, at %s; %g "
            "dropped\n",
            model_family(&b.plan.model)->type, backend,
            r.routing.capacity == 0   ? ""
            : r.routing.drop_position ? ", dropping by position"
                                      : ", dropping by weight",
            all.judged, all.rerouted, all.rough, all.corners, all.worst, all.where,
            b.e.figures->totals.dropped);
    close_bench(&b);
}

static const struct request dropless, by_weight = {.routing = {.capacity = 1}},
                                      by_position = {.routing = {.capacity = 0.8, .drop_position = true}};

static void test_mixtral(void **state)
{
    check("ref", mixtral, by_weight);
}

static void test_qwen2_moe(void **state)
{
    check("ref", qwen2_moe, dropless);
}

static void test_qwen3_moe(void **state)
{
    check("ref", qwen3_moe, by_position);
}

static void test_olmoe(void **state)
{
    check("ref", olmoe, dropless);
}

static void test_glm4_moe(void **state)
{
    check("ref", glm4_moe, dropless);
}

static void test_glm4_moe_dropping(void **state)
{
    check("ref", glm4_moe, by_weight);
}

static void test_cpu(void **state)
{
    check("cpu", qwen2_moe, by_position);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixtral),   cmocka_unit_test(test_qwen2_moe),
        cmocka_unit_test(test_qwen3_moe), cmocka_unit_test(test_olmoe),
        cmocka_unit_test(test_glm4_moe),  cmocka_unit_test(test_glm4_moe_dropping),
        cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
