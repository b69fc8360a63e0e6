/* SPDX-License-Identifier: MIT */
/* Edits that a rule must catch, and what moe-train refuses. */
#include <math.h>

#include "check/check.h"
#include "check/runnable.h"
#include "cost/communicators.h"
#include "cost/snapshot.h"
#include "lib/plans.h"

static void assert_rule(const struct plan *p, const char *rule, enum verdict v, const char *words)
{
    struct findings f;
    plan_check(p, &f);
    bool found = false;
    for (int i = 0; i < f.count; i++)
        if (strcmp(f.list[i].rule, rule) == 0) {
            found = true;
            if (f.list[i].verdict != v || !strstr(f.list[i].text, words))
                fail_msg("%s: verdict %d, %s", rule, f.list[i].verdict, f.list[i].text);
        }
    assert_true(found);
    findings_release(&f);
}

static void assert_verdict(const char *text, const char *rule, enum verdict v, const char *words)
{
    struct plan p;
    if (plan_parse(&p, text, strlen(text), "plan", false) < 0)
        fail_msg("%s", error_text());
    assert_rule(&p, rule, v, words);
    plan_release(&p);
}

static const struct {
    const char *from, *to, *rule, *words;
} edits[] = {
    {"\ngroup tp 0 0,1\n", "\ngroup tp 0 1,0\n", "groups-coords", "group tp 0 has rank 1 as member 0"},
    {"\ngroup tp 0 0,1\ngroup tp 1 2,3\n", "\ngroup tp 0 0,2\ngroup tp 1 1,3\n", "groups-coords",
     "group tp 0 has rank 2"},
    {"\ngroup ep 1 2,3\n", "\ngroup ep 1 2,2\n", "groups-partition", "rank 2 is in two groups"},
    {"\ngroup ep 1 2,3\n", "\n", "groups-partition", "rank 2 is in no group of kind ep"},
    {"\ngroup pp 0 0,4\n", "\ngroup pp 0 0\n", "groups-partition", "rank 4 is in no group of kind pp"},
    {"\ngroup ep 1 2,3\n", "\ngroup ep 1 2,3\ngroup embed 0 0,4\n", "groups-partition", "no such groups"},
    {"\nrank 1 node=0 tp=1", "\nrank 1 node=0 tp=0", "ranks-coords", "rank 1 is at tp 0"},
    {"\nrank 1 node=0", "\nrank 1 node=7", "nodes-fit", "rank 1 is on node 7"},
    {"\nexpert layers=0-3 ep=1 ids=4-7", "\nexpert layers=0-3 ep=1 ids=4-6,3", "experts-placed-once",
     "layer 0: expert 7 has no slot"},
    {"\nexpert layers=0-3 ep=1 ids=4-7", "\nexpert layers=0-2 ep=1 ids=4-7", "experts-placed-once",
     "layer 3: expert 4 has no slot"},
    {"\nexpert layers=0-3 ep=1 ids=4-7", "\nexpert layers=0-3 ep=0 ids=4-7", "experts-placed-once",
     "layer 0: ep rank 1 has no expert"},
    {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0", "schedule-complete", "stage 0: B1 is missing"},
    {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0 B1 B1", "schedule-complete",
     "stage 0, op 4: B1 is repeated"},
    {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0 B9", "schedule-complete",
     "stage 0, op 3: B9 is out of range"},
    {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 B1 F1 B0", "schedule-deadlock-free",
     "stage 0 waits at op 1, B1, for F1 of stage 0"},
    {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 B0 B1 F1", "schedule-deadlock-free",
     "stage 0 waits at op 2, B1, for F1 of stage 0"},
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F1 B1 F0 B0", "schedule-in-flight", ""}, /* legal: see below */
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F1 B1 F0 B0", "schedule-deadlock-free", ""},
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F1 B1 F0 B0", "messages-in-order",
     "stage 0 sends what F0 made, stage 1 receives for F1"},
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F0 F1 B1 B0", "messages-in-order",
     "message 0 backward from stage 1 to stage 0"},
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F0 F1 B0 B1", "messages-in-order", ""},
    {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F0 F1 B0 B1", "schedule-in-flight",
     "stage 1 holds 2 at once; 1f1b promises 1"},
    {"\nstage 1 pp=1 chunk=0 layers=2-3", "\nstage 1 pp=1 chunk=0 layers=2", "stages-cover",
     "hold 3 layers; the model has 4"},
    {"\nstage 1 pp=1 chunk=0 layers=2-3", "\nstage 1 pp=1 chunk=0 layers=1-3", "stages-cover",
     "stage 1 begins with layer 1; 2 is next"},
    {"\nstage 1 pp=1 chunk=0", "\nstage 1 pp=0 chunk=0", "stages-cover", "stage 1 is on pp 0 as chunk 0"},
    {" tp=2 cp=1 dp=2 ", " tp=2 cp=1 dp=4 ", "axes-dense", "is not 8 ranks"},
    {" ep=2 edp=2 ", " ep=2 edp=3 ", "axes-expert", "is not 8 ranks"},
    {"order=tp-cp-ep-dp-pp", "order=tp-cp-ep-dp-dp", "axes-order", "must name"},
    {"order=tp-cp-ep-dp-pp", "order=tp-cp-pp-ep-dp", "axes-pipeline", "2 apart in the dense part and 1"},
    {"microbatches=2", "microbatches=3", "batch-divide", "is 2 microbatches, not 3"},
    {"global=4", "global=5", "batch-divide", "4 or 6 would do"},
    {"\nbatch seq=1024", "\nbatch seq=1023", "tokens-divide", "seq 1024 would do"},
    {"schedule=1f1b", "schedule=interleaved", "schedule-fits", "needs vpp above 1"},
    {"bubble=0", "bubble=null #", "predict-matches", "bubble is"},
    {"step_s=null", "step_s=1", "predict-matches", "step_s is null; the plan says 1"},
    {"lambda=1.5", "lambda=0.5", "routing-values", "1 or more"},
    {"predict memory_bytes=", "predict memory_bytes=1", "predict-matches", "memory_bytes is "},
    {"\nbatch seq=1024", "\nbatch seq=512", "predict-matches", "memory_bytes is "},
    {"\nmachine name=local device=cpu nodes=1 per_node=8 memory_bytes=",
     "\nmachine name=local device=cpu nodes=1 per_node=8 memory_bytes=1 #", NULL, "lacks 'flops_bf16='"},
};

static void test_edits(void **state)
{
    struct request r = small_request();
    r.axes.dp = 2;
    r.batch.global = 4;
    size_t bytes;
    struct plan p = made(r);
    char *text = text_of(&p, &bytes);
    plan_release(&p);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = edit(text, edits[i].from, edits[i].to);
        if (!edits[i].rule) {
            assert_int_equal(plan_parse(&p, bad, strlen(bad), "plan", false), -1);
            assert_non_null(strstr(error_text(), edits[i].words));
        } else {
            assert_verdict(bad, edits[i].rule, *edits[i].words ? VERDICT_FAIL : VERDICT_OK, edits[i].words);
        }
        free(bad);
    }
    free(text);
}

/* A plan of another version of moekit: its memory is laid out in another way, a little more or less.
 * Everything else is a matter of arithmetic. */
static void test_predicted_elsewhere(void **state)
{
    struct plan made_here = made(small_request()), p = made_here;
    static const struct {
        double memory, bubble;
        int rank, arena; /* how many versions ago memory was counted */
        enum verdict verdict;
        const char *words;
    } cases[] = {{1, 1, 0, 0, VERDICT_OK, "come out the same"},
                 {1.05, 1, 0, 1, VERDICT_WARN, "which another moekit counted"},
                 {0.5, 1, 1, 1, VERDICT_WARN, "which another moekit counted"},
                 {1.05, 1, 0, 0, VERDICT_FAIL, "memory_bytes is "},
                 {1, 1, 1, 0, VERDICT_FAIL, "memory_rank is "},
                 {1.05, 1.01, 0, 1, VERDICT_FAIL, "bubble is "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bytes;
        p.predict = made_here.predict;
        p.predict.memory_bytes = floor(p.predict.memory_bytes * cases[i].memory);
        p.predict.bubble *= cases[i].bubble;
        p.predict.memory_rank += cases[i].rank;
        p.predict.arena -= cases[i].arena;
        char *text = text_of(&p, &bytes);
        assert_verdict(text, "predict-matches", cases[i].verdict, cases[i].words);
        free(text);
    }
    plan_release(&made_here);
}

/* One member of a group of many is on another node. */
static void test_large_group(void **state)
{
    struct request r = tiny;
    r.axes.dp = r.batch.global = 8192;
    struct plan p = made(r);
    struct findings f;
    int *all = xcalloc(8192, sizeof *all);
    for (int i = 0; i < 8192; i++)
        all[i] = i;
    for (int i = 0; i < p.group_count; i++)
        if (p.groups[i].kind == GROUP_ETP && p.groups[i].index == 0) {
            free(p.groups[i].ranks);
            p.groups[i].ranks = all;
            p.groups[i].size = 8192;
        }
    p.ranks[8000].node = 1;
    plan_check(&p, &f);
    for (int i = 0; i < f.count; i++)
        if (strcmp(f.list[i].rule, "nodes-local") == 0)
            assert_string_equal(
                f.list[i].text,
                "group etp 0 of 8192 ranks is on 2 nodes, rank 0 on node 0 and rank 8000 on node 1");
    findings_release(&f);
    plan_release(&p);
}

static void test_memory_fits(void **state)
{
    struct plan p = made(small_request());
    struct findings f;
    p.machine.memory_bytes = p.predict.memory_bytes - 1;
    plan_check(&p, &f);
    assert_int_equal(f.fails, 1);
    for (int i = 0; i < f.count; i++)
        if (f.list[i].verdict == VERDICT_FAIL)
            assert_string_equal(f.list[i].rule, "memory-fits");
    findings_release(&f);
    assert_int_equal(plan_runnable(&p), 0); /* the machine it starts on may have more */
    plan_release(&p);
}

/* ---- what warns at most ---- */

static const struct {
    struct request request;
    const char *rule;
    enum verdict verdict;
    const char *words;
} advised[] = {
    {{.model = "qwen3-30b-a3b", .cluster = "h100", .world = 8, .axes = {.pp = 8}, .zero = -1},
     "stages-balanced",
     VERDICT_WARN,
     "pp 7, which has the head, computes 1.63"},
    {{.model = "qwen3-30b-a3b", .cluster = "h100", .world = 8, .axes = {.pp = 8}, .split = "auto", .zero = -1},
     "stages-balanced",
     VERDICT_OK,
     "times the mean"},
    {{.model = "moe-tiny", .axes = {.pp = 4}, .batch = {.global = 1}, .zero = -1},
     "pipeline-filled",
     VERDICT_WARN,
     "1 microbatch over pp 4: at no time do all stages compute; a global batch of 4"},
    {{.model = "qwen3-30b-a3b", .cluster = "h200", .world = 16, .axes = {.tp = 16}, .zero = -1},
     "tp-width",
     VERDICT_WARN,
     "tp 16 is wider than a node of 8 ranks; tp 8 would do"},
    {{.model = "qwen3-30b-a3b", .cluster = "h200", .world = 16, .axes = {.tp = 16}, .zero = -1},
     "nodes-local",
     VERDICT_WARN,
     "group tp 0 of 16 ranks is on 2 nodes, rank 0 on node 0 and rank 8 on node 1"},
    {{.model = "moe-tiny", .cluster = "h100", .world = 16, .axes = {.tp = 2, .ep = 8}, .zero = -1},
     "groups-compact",
     VERDICT_OK,
     "ep groups on 1"},
    {{.model = "moe-tiny",
      .cluster = "h100",
      .world = 16,
      .axes = {.ep = 8, .order = "tp-cp-dp-ep-pp"},
      .zero = -1},
     "groups-compact",
     VERDICT_WARN,
     "group ep 0 of 8 ranks is on 2 nodes, rank 0 on node 0 and rank 8 on node 1; in "
     "another order than tp-cp-dp-ep-pp 1 would do"},
    {{.model = "moe-tiny", .routing = {.capacity = 0.9}, .zero = -1},
     "capacity-balanced",
     VERDICT_WARN,
     "9.8% are dropped at least"},
    {{.model = "moe-tiny", .routing = {.capacity = 1}, .zero = -1},
     "capacity-balanced",
     VERDICT_OK,
     "when loads are even"},
    {{.model = "moe-tiny", .cluster = "h100", .axes = {.ep = 4}, .routing = {.lambda = 1}, .zero = -1},
     "memory-skewed",
     VERDICT_WARN,
     "lambda 1, for even loads alone; a rank has enough for 4.00"},
    {{.model = "moe-tiny", .cluster = "h100", .axes = {.ep = 4}, .routing = {.lambda = 1.2}, .zero = -1},
     "memory-skewed",
     VERDICT_OK,
     "lambda 1.2; a rank has enough for 4.00"},
    {{.model = "moe-tiny", .cluster = "h100", .world = 1024, .zero = 1},
     "zero-divides",
     VERDICT_WARN,
     "dense parameters of stage 0 do not divide over dp 1024: 60288 are added, 22.5%"},
    {{.model = "moe-tiny", .cluster = "h100", .world = 8, .zero = 0},
     "zero-divides",
     VERDICT_OK,
     "cuts nothing"},
    {{.model = "moe-tiny", .axes = {.dp = 2}, .overlap = "on", .zero = -1},
     "buckets-several",
     VERDICT_WARN,
     "a stage's dense gradients and experts' are one bucket each"},
    {{.model = "moe-tiny", .axes = {.dp = 2}, .overlap = "on", .bucket_bytes = 100000, .zero = -1},
     "buckets-several",
     VERDICT_OK,
     "buckets of 100 kB"},
    {{.model = "moe-tiny", .cluster = "h100", .world = 8, .zero = -1},
     "cluster-known",
     VERDICT_OK,
     "those of preset 'h100'"},
};

static void test_advice(void **state)
{
    for (size_t i = 0; i < sizeof advised / sizeof *advised; i++) {
        struct plan p = made(advised[i].request);
        assert_rule(&p, advised[i].rule, advised[i].verdict, advised[i].words);
        plan_release(&p);
    }
}

/* Memory lasts for the skew that is told, and not for more. */
static void test_skew_that_fits(void **state)
{
    struct request r = {.model = "moe-7b", .cluster = "h100", .world = 8, .axes = {.ep = 8}, .zero = -1};
    struct plan p = made(r);
    const char *told;
    p.machine.memory_bytes = needed_bytes(&p.predict) + 300e6;
    struct findings f;
    plan_check(&p, &f);
    double lasts = 0;
    for (int i = 0; i < f.count; i++)
        if (strcmp(f.list[i].rule, "memory-skewed") == 0 && (told = strstr(f.list[i].text, "enough for ")))
            lasts = strtod(told + 11, NULL);
    findings_release(&f);
    assert_true(lasts > 1.6 && lasts < 7);
    for (int more = 0; more < 2; more++) {
        r.routing.lambda = lasts + (more ? 0.02 : -0.02);
        struct plan q = made(r);
        assert_int_equal(needed_bytes(&q.predict) > p.machine.memory_bytes, more);
        plan_release(&q);
    }
    plan_release(&p);
}

static void test_saves(void **state)
{
    struct request r = {.model = "moe-7b", .cluster = "h100", .world = 64, .axes = {.ep = 8}, .zero = -1};
    struct plan p = made(r);
    double save_s = save_seconds(&p, p.predict.memory_rank), best_s = save_interval_s(save_s, 1000);
    assert_true(fabs(best_s - sqrt(2 * save_s * 1000)) < 1e-9);
    for (int i = -1; i <= 1; i += 2) /* any other loses more */
        assert_true(save_lost_share(save_s, 1000, best_s * (1 + 0.1 * i)) >
                    save_lost_share(save_s, 1000, best_s));
    assert_rule(&p, "save-interval", VERDICT_OK, "8 nodes fail every 792 hours, a save takes ");
    p.save_every = 1;
    assert_rule(&p, "save-interval", VERDICT_WARN, "a save every 1 steps loses ");
    p.save_every = (int64_t)round(save_interval_s(save_s, p.machine.node_mtbf_s / 8) / p.predict.step_s);
    assert_rule(&p, "save-interval", VERDICT_OK, "a save every ");
    p.save_every = 0;
    p.machine.node_mtbf_s = 10;
    assert_rule(&p, "save-interval", VERDICT_WARN, "of all time is lost");
    p.machine.node_mtbf_s = 0;
    assert_rule(&p, "save-interval", VERDICT_OK, "not known");
    p.machine.memory_bytes *= 2;
    assert_rule(&p, "cluster-known", VERDICT_WARN,
                "memory_bytes is 160000000000; preset 'h100' has 80000000000");
    p.ranks[9].node = 0;
    assert_rule(&p, "nodes-in-order", VERDICT_WARN,
                "rank 9 is on node 0; nodes of 8 filled in order have it on 1");
    plan_release(&p);
}

static void test_limits(void **state)
{
    struct request requests[] = {
        {.model = "moe-tiny", .axes = {.cp = 2}, .zero = -1},
        {.model = "moe-tiny", .zero = 2},
        {.model = "moe-tiny", .precision = "fp8", .zero = -1},
        {.model = "moe-tiny", .dispatcher = "deepep", .zero = -1},
        {.model = "moe-tiny", .grad_dtype = "bf16", .zero = -1},
        {.model = "moe-tiny", .moment_dtype = "bf16", .zero = -1},
        {.model = "moe-tiny", .scope = "local", .zero = -1},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct plan p = made(requests[i]);
        assert_int_equal(plan_runnable(&p), -1);
        assert_int_equal(error_status(), STATUS_USAGE);
        plan_release(&p);
    }
    struct plan p = made(tiny);
    assert_int_equal(plan_runnable(&p), 0);
    p.slots.of[3] = -1;
    assert_int_equal(plan_runnable(&p), -1);
    assert_int_equal(error_status(), STATUS_NO);
    assert_non_null(strstr(error_text(), "experts-placed-once"));
    plan_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edits),       cmocka_unit_test(test_predicted_elsewhere),
        cmocka_unit_test(test_large_group), cmocka_unit_test(test_memory_fits),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_advice),
        cmocka_unit_test(test_saves),       cmocka_unit_test(test_skew_that_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
