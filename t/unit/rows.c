/* SPDX-License-Identifier: MIT */
/* What a MoE layer asks of the host and sends: how often the host waits for the device, in which stream and
 * with what queued meanwhile, and what an exchange is made of. A backend over `ref` and a kind of communication
 * count, over ranks in one process; every layer here is a mixture with a shared expert. */
#include "lib/unit.h"

#include <unistd.h>

#include "base/num.h"
#include "check/runnable.h"
#include "choose/make.h"
#include "comm/comm.h"
#include "engine/buckets.h"
#include "engine/engine.h"
#include "engine/pipeline.h"
#include "engine/setup.h"
#include "lib/simulated.h"

enum { LAYERS = 2, MICROBATCHES = 2, MOST_PEERS = 4 };

/* Over all ranks. */
static struct tally {
    int counts, figures;  /* downloads in the side stream, and in the main one */
    int syncs;            /* in any stream */
    int products;         /* queued between an event and the download in the side stream that follows it */
    int exchanges, sends; /* all-to-alls, and what they sent */
    int64_t bytes;
    bool twice; /* a peer in one list twice */
} tally;

/* A rank's streams and what it has queued since its event. */
static struct watch {
    struct stream *main, *side, *rows;
    struct event *routed;
    int queued;
} watches[MOST_PEERS];

static const struct backend *ref;

static struct watch *watch_of(const struct stream *s)
{
    for (int i = 0; i < MOST_PEERS; i++)
        if (s && (s == watches[i].main || s == watches[i].side || s == watches[i].rows))
            return &watches[i];
    return NULL;
}

static int count_download(struct stream *s, void *host, const void *p, size_t bytes)
{
    struct watch *w = watch_of(s);
    if (w && s == w->side) {
        tally.counts++;
        tally.products += w->queued > 0;
    } else {
        tally.figures += w != NULL;
    }
    return ref->download(s, host, p, bytes);
}

static int count_sync(struct stream *s)
{
    tally.syncs += watch_of(s) != NULL;
    return ref->sync(s);
}

static void count_matmul(struct stream *s, const struct matmul *op)
{
    struct watch *w = watch_of(s);
    if (w)
        w->queued++;
    ref->matmul(s, op);
}

static void count_record(struct event *e, struct stream *s)
{
    struct watch *w = watch_of(s);
    if (w && e == w->routed)
        w->queued = 0;
    ref->event_record(e, s);
}

static bool repeats(const struct comm_piece *list, int count)
{
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++)
            if (list[i].peer == list[j].peer)
                return true;
    return false;
}

static struct comm_batch *count_post_all(struct group *g, const char *what, const struct comm_piece *send,
                                         int sends, const struct comm_piece *recv, int recvs, bool device)
{
    if (strcmp(what, "exchange") == 0) {
        tally.exchanges++;
        tally.sends += sends;
        for (int i = 0; i < sends; i++)
            tally.bytes += (int64_t)send[i].bytes;
        tally.twice |= repeats(send, sends) || repeats(recv, recvs);
    }
    return sim_ops.post_all(g, what, send, sends, recv, recvs, device);
}

static const char config[] =
    "{\"model_type\": \"qwen2_moe\", \"vocab_size\": 37, \"hidden_size\": 16, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-5,"
    "\"rope_theta\": 10000.0, \"max_position_embeddings\": 64, \"num_experts_per_tok\": 2, \"num_experts\": 8,"
    "\"intermediate_size\": 20, \"moe_intermediate_size\": 12, \"shared_expert_intermediate_size\": 14,"
    "\"norm_topk_prob\": false, \"tie_word_embeddings\": false}";

struct job {
    struct plan plan;
    struct backend be;
    struct comm_ops ops;
    int failed;
    double overflow;
    int64_t row_bytes, plain_bytes; /* of a row with its weight, and without */
};

/* One rank's step, without the optimizer. */
static void step(struct sim_rank *r, void *arg)
{
    struct job *j = arg;
    struct engine e;
    struct stream *s = j->be.stream_new();
    int32_t tokens[4 * 9 * MICROBATCHES];
    r->comm.ops = &j->ops;
    r->comm.be = &j->be;
    if (engine_init(&e, &j->plan, &j->be, s, &r->comm) < 0 || engine_init_weights(&e, 1) < 0)
        j->failed++;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        tokens[i] = (int32_t)((i * i + 7 * i + (size_t)r->comm.rank * 3) % 37);
    gradients_begin(&e);
    watches[r->comm.rank] = (struct watch){.main = s, .side = e.side, .rows = e.rows, .routed = e.routed};
    if (j->failed || pipeline_run(&e, &j->plan.programs[0], tokens) < 0 || ref->sync(s) < 0)
        j->failed++;
    j->overflow += e.overflow;
    j->row_bytes = e.arena.wire_bytes;
    j->plain_bytes = e.H * (int64_t)type_bytes(e.type);
    watches[r->comm.rank] = (struct watch){0};
    engine_release(&e);
    j->be.stream_free(s);
}

static struct job run(struct request r, int ranks)
{
    char path[] = "/tmp/moekit-rows-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, config, strlen(config)), strlen(config));
    close(fd);
    struct job j = {.ops = sim_ops};
    ref = backend_open("ref", 0, 1);
    j.be = *ref;
    j.be.download = count_download;
    j.be.sync = count_sync;
    j.be.matmul = count_matmul;
    j.be.event_record = count_record;
    j.ops.post_all = count_post_all;
    r.model = path;
    r.precision = r.precision ? r.precision : "f32";
    r.zero = -1;
    r.world = ranks;
    int64_t dp = max64(1, ranks / max64(1, r.axes.tp));
    r.batch = (struct batch){.seq = 8, .micro = 2, .global = 2 * MICROBATCHES * dp};
    int ok = plan_make(&j.plan, &r);
    unlink(path);
    if (ok < 0 || plan_runnable(&j.plan) < 0)
        fail_msg("%s", error_text());
    memset(watches, 0, sizeof watches); /* a rank is watched from when it is ready */
    tally = (struct tally){0};
    assert_true(simulate(ranks, ranks, false, step, &j));
    assert_int_equal(j.failed, 0);
    printf("# ep %d, etp %d%s%s, %d ranks: a rank's layer and microbatch wait %g times for counts, %g for "
           "figures; "
           "an exchange sends %g pieces, %g bytes\n",
           (int)j.plan.axes.ep, (int)j.plan.axes.etp, j.plan.routing.capacity > 0 ? ", capacity" : "",
           j.plan.training.recompute == RECOMPUTE_FULL ? ", full recompute" : "", ranks,
           (double)tally.counts / (ranks * LAYERS * MICROBATCHES),
           (double)tally.figures / (ranks * LAYERS * MICROBATCHES),
           tally.exchanges ? (double)tally.sends / tally.exchanges : 0,
           tally.exchanges ? (double)tally.bytes / tally.exchanges : 0);
    return j;
}

/* ranks, all with these axes: what may be waited for, in the order of the program. */
static void check_waits(struct request r, int ranks)
{
    struct job j = run(r, ranks);
    int layers = ranks * LAYERS * MICROBATCHES;
    assert_int_equal(tally.counts, j.plan.axes.ep > 1 ? layers : 0);
    assert_int_equal(tally.figures, 0); /* they come down at the end of a step */
    assert_int_equal(tally.syncs, 0);
    assert_int_equal(tally.products, tally.counts); /* the shared expert was under way */
    assert_false(tally.twice);
    if (j.plan.routing.capacity > 0)
        assert_true(j.overflow == 0);
    plan_release(&j.plan);
}

static void one_holder(void **state)
{
    check_waits((struct request){.axes = {.ep = 1}}, 1);
    check_waits((struct request){.axes = {.ep = 1, .dp = 2}}, 2);
    check_waits((struct request){.axes = {.tp = 2, .etp = 2, .ep = 1}}, 2);
    check_waits((struct request){.axes = {.tp = 2, .etp = 2, .ep = 1}, .recompute = "full"}, 2);
    check_waits((struct request){.axes = {.ep = 1}, .routing = {.capacity = 0.8}}, 1);
    check_waits((struct request){.axes = {.tp = 2, .etp = 2, .ep = 1}, .routing = {.capacity = 1.1}}, 2);
}

static void several_holders(void **state)
{
    static const char *const recompute[] = {"none", "selective", "full"};
    for (int i = 0; i < 3; i++) {
        check_waits((struct request){.axes = {.ep = 2}, .recompute = recompute[i]}, 2);
        check_waits((struct request){.axes = {.ep = 2}, .recompute = recompute[i], .overlap = "on"}, 2);
        check_waits((struct request){.axes = {.ep = 4}, .recompute = recompute[i], .routing = {.lambda = 4}},
                    4);
        check_waits((struct request){.axes = {.ep = 4}, .recompute = recompute[i], .routing = {.lambda = 1}},
                    4);
        check_waits((struct request){.axes = {.tp = 2, .etp = 2, .ep = 2}, .recompute = recompute[i]}, 4);
        check_waits(
            (struct request){.axes = {.tp = 2, .etp = 2, .ep = 2}, .recompute = recompute[i], .overlap = "on"},
            4);
    }
}

static void capacity(void **state)
{
    for (double factor = 0.5; factor < 3; factor += 0.5) {
        check_waits((struct request){.axes = {.ep = 4}, .routing = {.lambda = 1, .capacity = factor}}, 4);
        check_waits((struct request){.axes = {.tp = 2, .etp = 2, .ep = 2},
                                     .routing = {.lambda = 1, .capacity = factor}},
                    4);
    }
}

/* Without recompute and in one pass a layer and microbatch makes four exchanges over ep: rows out with their
 * weights and results back, gradients out and back with those of the weights. */
static void messages(void **state)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct request r = {.axes = {.ep = 4}, .routing = {.lambda = 4}, .precision = bf16 ? "bf16" : "f32"};
        struct job j = run(r, 4);
        assert_true(j.overflow == 0);
        assert_int_equal(tally.exchanges, 4 * 4 * LAYERS * MICROBATCHES);
        assert_true(tally.sends <= 3 * tally.exchanges && tally.sends > tally.exchanges);
        int64_t rows = tally.bytes / 2 / (j.row_bytes + j.plain_bytes);
        assert_int_equal(tally.bytes, 2 * rows * (j.row_bytes + j.plain_bytes));
        assert_true(rows > 0 && j.row_bytes <= j.plain_bytes + 16);
        plan_release(&j.plan);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holder),
        cmocka_unit_test(several_holders),
        cmocka_unit_test(capacity),
        cmocka_unit_test(messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
