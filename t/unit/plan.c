/* SPDX-License-Identifier: MIT */
/* Plans: groups against Megatron's, schedules against their formulas, text that reads back, hostile text, and
 * edits that a rule must catch. */
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
#include "base/num.h"
#include "base/record.h"
#include "check/check.h"
#include "check/runnable.h"
#include "choose/make.h"
#include "cost/memory.h"
#include "cost/simulate.h"
#include "emit/json.h"
#include "plan/axes.h"
#include "plan/layout.h"
#include "plan/rules.h"
#include "plan/schedule.h"
#include "plan/text.h"

static const struct request tiny = {.model = "moe-tiny", .zero = -1};

static struct plan made(struct request r)
{
    struct plan p;
    if (plan_make(&p, &r) < 0)
        fail_msg("%s", error_text());
    return p;
}

static void refused(struct request r, const char *words)
{
    struct plan p;
    assert_int_equal(plan_make(&p, &r), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    if (!strstr(error_text(), words))
        fail_msg("'%s' is not in: %s", words, error_text());
}

static char *text_of(const struct plan *p, size_t *bytes)
{
    static char *text; /* static: gcc takes the stream's use of its address for a dangling pointer */
    FILE *f = open_memstream(&text, bytes);
    assert_int_equal(plan_write(p, f), 0);
    fclose(f);
    return text;
}

/* ---- layout ---- */

static void assert_group(const struct plan *p, enum group_kind kind, int index, const char *members)
{
    char list[400] = "";
    for (int i = 0; i < p->group_count; i++) {
        const struct plan_group *g = &p->groups[i];
        if (g->kind != kind || g->index != index)
            continue;
        for (int k = 0; k < g->size; k++)
            snprintf(list + strlen(list), sizeof list - strlen(list), k ? ",%d" : "%d", g->ranks[k]);
        assert_ptr_equal(plan_group_of(p, kind, g->ranks[0]), g);
    }
    assert_string_equal(list, members);
}

static int group_total(const struct plan *p, enum group_kind kind)
{
    int n = 0;
    for (int i = 0; i < p->group_count; i++)
        n += p->groups[i].kind == kind;
    return n;
}

static void test_megatron_vectors(void **state)
{
    struct request r = tiny;
    r.world = 16;
    r.axes = (struct axes){.tp = 2, .pp = 2, .ep = 4};
    struct plan p = made(r);
    assert_group(&p, GROUP_TP, 0, "0,1");
    assert_group(&p, GROUP_TP, 7, "14,15");
    assert_group(&p, GROUP_DP, 0, "0,2,4,6");
    assert_group(&p, GROUP_DP, 1, "1,3,5,7");
    assert_group(&p, GROUP_PP, 0, "0,8");
    assert_group(&p, GROUP_EP, 0, "0,1,2,3");
    assert_group(&p, GROUP_EDP, 0, "0,4");
    assert_int_equal(p.axes.edp, 2);
    plan_release(&p);
    r.axes.etp = 2;
    p = made(r);
    assert_group(&p, GROUP_EP, 0, "0,2,4,6");
    assert_group(&p, GROUP_EP, 1, "1,3,5,7");
    assert_group(&p, GROUP_ETP, 1, "2,3");
    assert_int_equal(p.axes.edp, 1);
    plan_release(&p);
}

/* Context parallelism: in the dp·cp groups cp is the faster one. */
static void test_dp_cp_groups(void **state)
{
    struct request r = tiny;
    r.axes = (struct axes){.tp = 2, .cp = 2, .dp = 2};
    struct plan p = made(r);
    assert_int_equal(p.world, 8);
    assert_group(&p, GROUP_CP, 0, "0,2");
    assert_group(&p, GROUP_DP, 0, "0,4");
    assert_group(&p, GROUP_DP_CP, 0, "0,2,4,6");
    plan_release(&p);
    r.axes = (struct axes){.tp = 2, .cp = 2, .dp = 2, .order = "tp-dp-cp-ep-pp"};
    p = made(r);
    assert_group(&p, GROUP_CP, 0, "0,4");
    assert_group(&p, GROUP_DP_CP, 0, "0,2,4,6");
    plan_release(&p);
}

static void test_readings(void **state)
{
    struct plan a = made((struct request){.strategy = "ep16-tp4-pp2", .zero = -1});
    assert_group(&a, GROUP_TP, 3, "12,13,14,15");
    assert_group(&a, GROUP_EP, 0, "0,4,8,12,16,20,24,28,32,36,40,44,48,52,56,60");
    assert_group(&a, GROUP_PP, 5, "5,69");
    assert_int_equal(a.axes.dp, 16);
    assert_int_equal(a.batch.microbatches, 8);
    assert_int_equal(a.ranks[127].node, 15);
    for (int i = 0; i < 128; i++) {
        const struct coords *c = &a.ranks[i];
        assert_int_equal(i, c->etp + 4 * c->ep + 64 * c->pp);
    }
    struct plan b = made((struct request){.strategy = "ep16-tp4-pp2-folded", .zero = -1});
    assert_group(&b, GROUP_EP, 0, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15");
    assert_group(&b, GROUP_EDP, 0, "0,16,32,48");
    assert_true(b.predict.flops_per_token == 2013265920.0);
    /* 18 bytes a parameter, master and moments cut over the replicas: 6 + 12/D, to padding */
    assert_true(fabs(a.predict.state_bytes - 1.02e9) < 0.01e9);
    assert_true(fabs(b.predict.state_bytes - 1.93e9) < 0.01e9);
    plan_release(&a);
    plan_release(&b);
}

/* A config in a file of its own: tied embeddings, two key/value heads. */
static char *tied_config(void)
{
    static char path[] = "/tmp/moekit-plan-XXXXXX";
    strcpy(strrchr(path, '-'), "-XXXXXX");
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs("{\"model_type\": \"mixtral\", \"num_hidden_layers\": 5, \"hidden_size\": 64, "
          "\"num_attention_heads\": 8,\n"
          " \"num_key_value_heads\": 2, \"vocab_size\": 96, \"num_experts_per_tok\": 2, \"num_local_experts\": "
          "4,\n"
          " \"intermediate_size\": 96, \"sliding_window\": null, \"tie_word_embeddings\": true}",
          f); /* and no newline */
    fclose(f);
    return path;
}

static void test_kv_and_embed_groups(void **state)
{
    char *path = tied_config();
    struct plan p = made((struct request){.model = path, .axes = {.tp = 4, .pp = 2, .dp = 2}, .zero = -1});
    assert_int_equal(group_total(&p, GROUP_KV), 8);
    assert_group(&p, GROUP_KV, 0, "0,1");
    assert_group(&p, GROUP_KV, 1, "2,3");
    assert_group(&p, GROUP_KV, 2, "4,5");
    assert_int_equal(group_total(&p, GROUP_EMBED), 8);
    assert_group(&p, GROUP_EMBED, 3, "3,11");
    plan_release(&p);
    p = made((struct request){.model = path, .axes = {.tp = 2}, .zero = -1});
    assert_null(plan_group_of(&p, GROUP_KV, 0));
    assert_null(plan_group_of(&p, GROUP_EMBED, 0));
    plan_release(&p);
    unlink(path);
}

static void test_refusals(void **state)
{
    struct request r = tiny;
    r.world = 16;
    r.axes = (struct axes){.tp = 4, .pp = 3};
    refused(r, "rule axes-dense: tp 4 · cp 1 · pp 3 = 12 does not divide 16 ranks; pp 1, 2 or 4 would");
    r.axes = (struct axes){.ep = 3};
    refused(r, "rule axes-expert: etp 1 · ep 3 · pp 1 = 3 does not divide 16 ranks; ep 1, 2, 4 or 8 would");
    r.axes = (struct axes){.dp = 3};
    refused(r, "dp 16 would be");
    r.axes = (struct axes){.tp = 16};
    refused(r, "rule heads-divide: attention heads 8 is not divisible by tp 16; tp 2, 4 or 8 would do");
    r.axes = (struct axes){.ep = 16};
    refused(r, "rule experts-divide");
    r.axes = (struct axes){.order = "tp-pp-cp-ep-dp", .tp = 2, .pp = 2};
    refused(r, "rule axes-pipeline");
    r.axes = (struct axes){.order = "tp-cp-ep-dp"};
    refused(r, "rule axes-order");
    r.axes = (struct axes){.order = "tp-cp-ep-dp-pp-"};
    refused(r, "rule axes-order");
    r.axes = (struct axes){.pp = 2, .vpp = 2};
    r.batch.global = 24;
    refused(r, "schedule interleaved: 3 microbatches are not divisible by pp 2; global batch 32 would do");
    r.batch.global = 20;
    refused(
        r,
        "rule batch-divide: global batch 20 is not divisible by micro-batch 1 · dp 8 = 8; 16 or 24 would do");
    r.batch.global = 0;
    r.split = "2,1,1";
    refused(r, "split '2,1,1' has 3 stages; pp · vpp is 4");
    r.split = "2,1,1,1";
    refused(r, "has 5 layers; the model has 4");
    r.split = "2,1,,1";
    refused(r, "rule stages-cover");
    r.split = NULL;
    r.batch.seq = 511;
    r.axes = (struct axes){.tp = 2};
    refused(r, "rule tokens-divide");
    refused(
        (struct request){
            .model = "moe-tiny", .schedule = "zb-h1", .recompute = "full", .axes = {.pp = 2}, .zero = -1},
        "rule schedule-fits: schedule zb-h1 needs recompute none");
    refused((struct request){.strategy = "ep16-tp4-pp2", .world = 256, .zero = -1}, "rule nodes-suffice");
    refused((struct request){.strategy = "nonsense", .zero = -1}, "no strategy");
    refused((struct request){.zero = -1}, "no model");
    refused((struct request){.model = "moe-tiny", .axes = {.tp = 1 << 20, .dp = 1 << 20}, .zero = -1},
            "more than");
}

static void test_splits(void **state)
{
    struct request r = {
        .model = "moe-7b", .axes = {.pp = 4}, .split = "0,7,4,5", .zero = -1, .cluster = "h100"};
    struct plan p = made(r);
    assert_int_equal(p.stages[0].layers, 0);
    assert_int_equal(p.stages[1].first, 0);
    assert_int_equal(p.stages[3].first, 11);
    plan_release(&p);
    r.split = NULL;
    r.axes.pp = 3;
    p = made(r);
    assert_int_equal(p.stages[0].layers, 6);
    assert_int_equal(p.stages[2].layers, 5);
    plan_release(&p);
    /* the head of moe-7b (33.5M parameters) weighs as much as two layers (16.8M): the last stage gets fewer */
    r.split = "auto";
    r.axes.pp = 2;
    p = made(r);
    assert_int_equal(p.stages[0].layers + p.stages[1].layers, 16);
    assert_int_equal(p.stages[0].layers, 9);
    plan_release(&p);
}

static void test_capacity(void **state)
{
    struct request r = {.strategy = "ep16-tp4-pp2", .zero = -1};
    r.routing.capacity = 1.2;
    struct plan p = made(r);
    assert_int_equal(plan_expert_capacity(&p, 512), 20);
    assert_int_equal(plan_expert_capacity(&p, 2048), 77);
    plan_release(&p);
}

/* ---- schedules ---- */

struct bare {
    struct plan p;
    struct simulation s;
};

static void play(struct bare *b, const char *schedule, int64_t p, int64_t m, int64_t v, double w)
{
    b->p = (struct plan){.axes = {.pp = p, .vpp = v}, .batch = {.microbatches = m}};
    strcpy(b->p.training.schedule, schedule);
    assert_int_equal(schedule_make(&b->p), 0);
    if (plan_simulate(&b->p, 1, 1, w, &b->s) < 0)
        fail_msg("%s p %d m %d v %d: %s", schedule, (int)p, (int)m, (int)v, error_text());
}

static void played(struct bare *b)
{
    simulation_release(&b->s);
    plan_release(&b->p);
}

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("%.17g is not %.17g", got, want);
}

static void test_schedules(void **state)
{
    struct bare b;
    for (int64_t p = 1; p <= 6; p++)
        for (int64_t m = 1; m <= 12; m++) {
            play(&b, "gpipe", p, m, 1, 1);
            assert_near(b.s.bubble, (double)(p - 1) / (double)(m + p - 1));
            for (int i = 0; i < p; i++)
                assert_int_equal(b.s.in_flight[i], m);
            played(&b);
            play(&b, "1f1b", p, m, 1, 1);
            assert_near(b.s.bubble, (double)(p - 1) / (double)(m + p - 1));
            for (int i = 0; i < p; i++)
                assert_int_equal(b.s.in_flight[i], min64(m, p - i));
            played(&b);
            play(&b, "zb-h1", p, m, 1, 1);
            if (m >= p)
                assert_near(b.s.bubble, (double)(p - 1) / (double)(3 * m + p - 1));
            for (int i = 0; i < p; i++)
                assert_true(b.s.in_flight[i] <= min64(m, p));
            assert_int_equal(b.s.in_flight[0], min64(m, p)); /* what 1F1B holds there */
            played(&b);
            for (int64_t v = 2; v <= 4 && p > 1 && m % p == 0; v++) {
                play(&b, "interleaved", p, m, v, 1);
                assert_near(b.s.bubble, (double)(p - 1) / (double)(v * m + p - 1));
                for (int i = 0; i < p; i++)
                    assert_int_equal(b.s.in_flight[i], min64(m * v, 2 * (p - i - 1) + (v - 1) * p + 1));
                played(&b);
            }
        }
}

/* Times by hand: p 2, m 2, F 1, B 2. */
static void test_start_times(void **state)
{
    struct bare b;
    play(&b, "1f1b", 2, 2, 1, 1);
    const double first[] = {0, 1, 4, 7}, second[] = {1, 2, 4, 5}; /* F0 F1 B0 B1; F0 B0 F1 B1 */
    for (int k = 0; k < 4; k++) {
        assert_near(b.s.start_s[0][k], first[k]);
        assert_near(b.s.start_s[1][k], second[k]);
    }
    assert_near(b.s.span_s, 9);
    played(&b);
}

/* ---- text ---- */

static void test_round_trip(void **state)
{
    char *path = tied_config();
    struct request requests[] = {
        tiny,
        {.strategy = "ep16-tp4-pp2", .zero = -1, .made_by = "a command line"},
        {.model = path,
         .axes = {.tp = 4, .pp = 3, .dp = 2},
         .split = "0,5,0",
         .schedule = "zb-h1",
         .zero = 0,
         .routing = {.capacity = 1.25}},
        {.model = "moe-tiny",
         .axes = {.pp = 2, .vpp = 2, .cp = 2},
         .overlap = "on",
         .grad_dtype = "bf16",
         .zero = 3,
         .precision = "fp8"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        size_t bytes, again_bytes;
        struct plan p = made(requests[i]), q;
        char *text = text_of(&p, &bytes);
        if (plan_parse(&q, text, bytes, "plan", true) < 0)
            fail_msg("%s", error_text());
        char *again = text_of(&q, &again_bytes);
        assert_string_equal(text, again);
        assert_true(q.sealed);
        assert_int_equal(q.model.source_bytes, p.model.source_bytes);
        assert_memory_equal(q.model.source, p.model.source, p.model.source_bytes);
        assert_memory_equal(q.ranks, p.ranks, p.world * sizeof *p.ranks);
        assert_memory_equal(q.group_index, p.group_index, p.world * GROUP_KINDS * sizeof *p.group_index);
        plan_release(&p);
        plan_release(&q);
        free(text);
        free(again);
    }
    unlink(path);
}

static struct request small_request(void)
{
    return (struct request){
        .model = "moe-tiny", .axes = {.tp = 2, .ep = 2, .pp = 2}, .batch = {.global = 2}, .zero = -1};
}

/* Reads a damaged text; whatever it is, what is read must survive the check and being written. */
static bool survives(const char *text, size_t bytes)
{
    struct plan p;
    struct findings f;
    size_t out;
    char *exact = malloc(bytes ? bytes : 1); /* so that a sanitizer sees a read past its end */
    memcpy(exact, text, bytes);
    int r = plan_parse(&p, exact, bytes, "plan", false);
    free(exact);
    if (r < 0) {
        assert_true(*error_text());
        return false;
    }
    plan_check(&p, &f);
    findings_release(&f);
    plan_runnable(&p);
    free(text_of(&p, &out));
    char *json = NULL;
    FILE *mem = open_memstream(&json, &out);
    plan_write_json(&p, mem);
    fclose(mem);
    free(json);
    plan_release(&p);
    return true;
}

static void test_truncated(void **state)
{
    size_t bytes;
    struct plan p = made(small_request());
    char *text = text_of(&p, &bytes);
    size_t body = (size_t)(strstr(text, "\nsum ") - text);
    for (size_t n = 0; n < bytes; n++) {
        bool whole = survives(text, n);
        if (n < body - 1) /* but for digits of the last figure */
            assert_false(whole && n < body - 30);
    }
    free(text);
    plan_release(&p);
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void test_damaged(void **state)
{
    size_t bytes;
    struct plan p = made(small_request());
    char *text = text_of(&p, &bytes), *bad = malloc(bytes + 1);
    static const char likely[] = "0123456789-,.=| #\n%FBWx";
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        memcpy(bad, text, bytes + 1);
        /* the config's checksum would stop all that is changed in it, so mostly what follows */
        size_t from = i % 8 ? (size_t)(strstr(text, "\naxes ") - text) : 0;
        for (int k = 1 + (int)(next_random(&seed) % 3); k > 0; k--) {
            size_t at = from + next_random(&seed) % (bytes - from);
            bad[at] = i % 2 ? likely[next_random(&seed) % (sizeof likely - 1)] : (char)next_random(&seed);
        }
        survives(bad, bytes);
    }
    free(bad);
    free(text);
    plan_release(&p);
}

/* What is made passes the check, whatever was asked for. */
static void test_made_plans_pass(void **state)
{
    static const char *const orders[] = {"tp-cp-ep-dp-pp", "cp-tp-dp-ep-pp", "pp-tp-cp-ep-dp",
                                         "ep-dp-pp-tp-cp"};
    static const int64_t sizes[] = {1, 2, 3, 4, 8};
    uint64_t seed = 1442695040888963407u;
    int plans = 0;
    for (int i = 0; i < 3000; i++) {
        int64_t v[6];
        for (int k = 0; k < 6; k++)
            v[k] = sizes[next_random(&seed) % 5];
        struct request r = {
            .model = "moe-tiny",
            .axes = {.tp = v[0], .etp = v[1], .ep = v[2], .pp = v[3], .vpp = v[4] % 3 + 1, .cp = v[5] % 3 + 1},
            .world = 16 * (int64_t)(next_random(&seed) % 4),
            .schedule = i % 3 ? NULL : schedule_name[next_random(&seed) % 4],
            .zero = -1};
        strcpy(r.axes.order, orders[next_random(&seed) % 4]);
        struct plan p;
        struct findings f;
        if (plan_make(&p, &r) < 0) {
            assert_int_equal(error_status(), STATUS_USAGE);
            assert_non_null(strstr(error_text(), "rule "));
            continue;
        }
        p.machine.memory_bytes = 0;
        plans++;
        plan_check(&p, &f);
        for (int k = 0; k < f.count; k++)
            if (f.list[k].verdict == VERDICT_FAIL)
                fail_msg("%s: %s", f.list[k].rule, f.list[k].text);
        findings_release(&f);
        plan_release(&p);
    }
    assert_true(plans > 300);
}

/* ---- edits ---- */

static char *edit(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("'%s' is not in the plan", from);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void assert_verdict(const char *text, const char *rule, enum verdict v, const char *words)
{
    struct plan p;
    struct findings f;
    if (plan_parse(&p, text, strlen(text), "plan", false) < 0)
        fail_msg("%s", error_text());
    plan_check(&p, &f);
    bool found = false;
    for (int i = 0; i < f.count; i++)
        if (strcmp(f.list[i].rule, rule) == 0) {
            found = true;
            if (f.list[i].verdict != v || !strstr(f.list[i].text, words))
                fail_msg("%s: verdict %d, %s", rule, f.list[i].verdict, f.list[i].text);
        }
    assert_true(found);
    findings_release(&f);
    plan_release(&p);
}

static void test_edits(void **state)
{
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
         "share slot 0 of ep rank 0"},
        {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0", "schedule-complete", "stage 0: B1 is missing"},
        {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0 B1 B1", "schedule-complete",
         "stage 0, op 4: B1 is repeated"},
        {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 F1 B0 B9", "schedule-complete",
         "stage 0, op 3: B9 is out of range"},
        {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 B1 F1 B0", "schedule-deadlock-free",
         "stage 0 waits at op 1, B1, for F1 of stage 0"},
        {"\nschedule 0 F0 F1 B0 B1", "\nschedule 0 F0 B0 B1 F1", "schedule-deadlock-free",
         "stage 0 waits at op 2, B1, for F1 of stage 0"},
        {"\nschedule 1 F0 B0 F1 B1", "\nschedule 1 F1 B1 F0 B0", "schedule-in-flight",
         ""}, /* legal: see below */
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
        {"lambda=1.5", "lambda=0.5", "routing-values", "1 or more"},
        {"predict memory_bytes=", "predict memory_bytes=1", "predict-matches", "memory_bytes is "},
        {"\nbatch seq=1024", "\nbatch seq=512", "predict-matches", "memory_bytes is "},
        {"\nmachine name=local device=cpu nodes=1 per_node=8 memory_bytes=",
         "\nmachine name=local device=cpu nodes=1 per_node=8 memory_bytes=1 #", NULL, "lacks 'flops_bf16='"},
    };
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

static void test_refused_text(void **state)
{
    static const struct {
        const char *from, *to, *words;
    } edits[] = {
        {"moe-plan 1", "moe-plan 2", "plan:1:10: version '2' of the format is not 1"},
        {"moe-plan 1", "a plan", "plan:1:1: not a plan"},
        {"bytes=", "bytes=9", "plan:3:8: bytes must be"},
        {"bytes=6", "bytes=5", "is longer than its 530 bytes"},
        {"bytes=6", "bytes=7", "the config ends before its 730 bytes"},
        {"\"hidden_size\": 128", "\"hidden_size\": 256", "the config's crc32 is"},
        {" hidden=128", " hidden=256", "'model' says hidden=256, the config 128"},
        {"family=mixtral", "family=olmoe", "'model' says family=olmoe"},
        {"world=4", "world=999999", "999999 ranks, but the plan has"},
        {"\nrank 1 ", "\nrank 0 ", "rank 0 is repeated"},
        {"\nrank 1 node=0 tp=1", "\nrank 1 node=0 tp=2", "tp must be a whole number from 0 to 1, not '2'"},
        {"\ngroup tp 0 0,1", "\ngroup tp 0 0,9", "must be a list of numbers up to 3: '9' is not"},
        {"\ngroup tp 0 0,1", "\ngroup tq 0 0,1", "cannot be 'tq'"},
        {"\ngroup tp 0 0,1", "\ngroup tp 0 0,1 2", "'2' is one value too many"},
        {"\nbatch seq=", "\nbatch seq=1 seq=", "key 'seq' is repeated"},
        {"\nbatch seq=", "\nbatch sequence=1 seq=", "'batch' has no key 'sequence'"},
        {"\nbatch ", "\nbatches ", "unknown record 'batches'"},
        {"\nstage 1", "\nstage 2", "stage 2, where 1 of 2 was expected"},
        {"\nschedule 0 F0", "\nschedule 0 G0", "'G0' is no operation"},
        {"\nschedule 1", "\nschedule 0", "schedule 0 is repeated"},
        {"\nexpert layers=0-3", "\nexpert layers=0-4", "must be a list of numbers up to 3"},
        {"\nsum ", "\nrank 0\nsum ", "lacks 'node='"},
    };
    size_t bytes;
    struct plan p = made(small_request()), q;
    char *text = text_of(&p, &bytes);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = edit(text, edits[i].from, edits[i].to);
        if (plan_parse(&q, bad, strlen(bad), "plan", false) == 0)
            fail_msg("'%s' was read", edits[i].to);
        assert_int_equal(error_status(), STATUS_USAGE);
        if (!strstr(error_text(), edits[i].words))
            fail_msg("'%s' is not in: %s", edits[i].words, error_text());
        free(bad);
    }
    char *changed = edit(text, "lambda=1.5", "lambda=1.4");
    assert_int_equal(plan_parse(&q, changed, strlen(changed), "plan", true), -1);
    assert_non_null(strstr(error_text(), "moe-plan-check --seal"));
    free(changed);
    *strstr(text, "sum crc32") = '\0';
    assert_int_equal(plan_parse(&q, text, strlen(text), "plan", true), 0);
    assert_false(q.sealed);
    plan_release(&q);
    free(text);
    plan_release(&p);
}

static void test_limits(void **state)
{
    struct request requests[] = {
        {.model = "moe-tiny", .axes = {.cp = 2}, .zero = -1},
        {.model = "moe-tiny", .zero = 2},
        {.model = "moe-tiny", .precision = "fp8", .zero = -1},
        {.model = "moe-tiny", .overlap = "on", .zero = -1},
        {.model = "moe-tiny", .dispatcher = "deepep", .zero = -1},
        {.model = "moe-tiny", .grad_dtype = "bf16", .zero = -1},
        {.model = "moe-tiny", .moment_dtype = "bf16", .zero = -1},
        {.model = "moe-tiny", .routing.local_scope = true, .zero = -1},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct plan p = made(requests[i]);
        assert_int_equal(plan_runnable(&p), -1);
        assert_int_equal(error_status(), STATUS_USAGE);
        plan_release(&p);
    }
    struct plan p = made(tiny);
    assert_int_equal(plan_runnable(&p), 0);
    p.expert_slot[3] = 2;
    assert_int_equal(plan_runnable(&p), -1);
    assert_int_equal(error_status(), STATUS_NO);
    assert_non_null(strstr(error_text(), "experts-placed-once"));
    plan_release(&p);
}

static void test_records(void **state)
{
    char text[] = "  # only a comment\n\nkind 3 key=a%20b list=7,2-4 n=1e3 # rest=1\nnext -\n";
    struct records r;
    int64_t v;
    char word[8];
    double x;
    int *list, count;
    assert_int_equal(records_open(&r, text, sizeof text - 1, "f"), 0);
    assert_int_equal(record_next(&r), 1);
    assert_string_equal(r.kind, "kind");
    assert_int_equal(r.line, 3);
    assert_int_equal(record_int(&r, NULL, 0, 9, &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(record_text(&r, "key", word, sizeof word), 0);
    assert_string_equal(word, "a b");
    assert_int_equal(record_num(&r, "n", 0, 1e4, &x), 0);
    assert_true(x == 1000);
    assert_int_equal(record_end(&r), -1);
    assert_string_equal(error_text(), "f:3:18: 'kind' has no key 'list'");
    assert_int_equal(record_list(&r, "list", 9, 3, &list, &count), -1);
    assert_int_equal(record_list(&r, "list", 9, 4, &list, &count), 0);
    assert_int_equal(count, 4);
    assert_int_equal(list[0] * 1000 + list[1] * 100 + list[2] * 10 + list[3], 7234);
    free(list);
    assert_int_equal(record_end(&r), 0);
    assert_int_equal(record_next(&r), 1);
    assert_int_equal(record_list(&r, NULL, 9, 4, &list, &count), 0);
    assert_int_equal(count, 0);
    free(list);
    assert_int_equal(record_next(&r), 0);
    records_close(&r);
    char nul[] = "a\nb\0c";
    assert_int_equal(records_open(&r, nul, 5, "f"), -1);
    assert_non_null(strstr(error_text(), "f:2:1: a NUL byte"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_megatron_vectors), cmocka_unit_test(test_dp_cp_groups),
        cmocka_unit_test(test_readings),         cmocka_unit_test(test_kv_and_embed_groups),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_splits),
        cmocka_unit_test(test_capacity),         cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_start_times),      cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_truncated),        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_made_plans_pass),  cmocka_unit_test(test_edits),
        cmocka_unit_test(test_memory_fits),      cmocka_unit_test(test_refused_text),
        cmocka_unit_test(test_limits),           cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
