/* SPDX-License-Identifier: MIT */
/* Plans: groups against Megatron's, splits, capacity, what is refused and why, and that what is made passes
 * the check. */
#include <unistd.h>

#include <math.h>

#include "check/check.h"
#include "lib/plans.h"
#include "plan/axes.h"
#include "plan/layout.h"
#include "plan/schedule.h"

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
            .schedule = i % 3 ? NULL : schedules[next_random(&seed) % 4].name,
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_megatron_vectors), cmocka_unit_test(test_dp_cp_groups),
        cmocka_unit_test(test_readings),         cmocka_unit_test(test_kv_and_embed_groups),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_splits),
        cmocka_unit_test(test_capacity),         cmocka_unit_test(test_made_plans_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
