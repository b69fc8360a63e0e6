/* SPDX-License-Identifier: MIT */
/* Seconds, against sums done by hand: efficiency curves, links, uneven stages, layers. */
#include <math.h>
#include <string.h>

#include "cost/curve.h"
#include "cost/links.h"
#include "cost/seconds.h"
#include "cost/simulate.h"
#include "lib/plans.h"
#include "plan/schedule.h"

static bool close_to(double x, double y)
{
    return fabs(x - y) <= 1e-9 * fabs(y);
}

static void curves(void **state)
{
    struct curve c;
    char text[CURVE_TEXT];
    assert_int_equal(curve_parse(&c, "1e9:0.2,1e11:0.6"), 0);
    assert_true(close_to(curve_share(&c, 1e10), 0.4) && close_to(curve_share(&c, 1e11), 0.6));
    assert_true(curve_share(&c, 1) == 0.2 && curve_share(&c, 1e15) == 0.6);
    assert_true(curve_text(&c, text));
    assert_string_equal(text, "1e+09:0.2,1e+11:0.6");
    assert_int_equal(curve_parse(&c, ""), 0);
    assert_true(curve_share(&c, 1e9) == 1);
    static const char *const bad[] = {"x",
                                      "1e9",
                                      "1e9:",
                                      "1e9:0",
                                      "1e9:1.1",
                                      "1e9:nan",
                                      "1e9:0.5,",
                                      "1e9:.5,1:.6",
                                      "0:0.5",
                                      "inf:0.5",
                                      "1e9:0.5 1e10:.6",
                                      ",",
                                      "1e9:.5;2",
                                      "1:.1,2:.1,3:.1,4:.1,5:.1,6:.1,7:.1,8:.1,9:.1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (curve_parse(&c, bad[i]) == 0)
            fail_msg("'%s' is accepted", bad[i]);
}

/* 100 GB/s inside and 10 across, of which 0.8 is reached; 1 and 2 s of latency to tell them from all else. */
static const struct machine slow = {.intra_Bps = 100e9, .inter_Bps = 10e9, .intra_s = 1, .inter_s = 2};

static void links(void **state)
{
    struct reach node = {8, 8}, nodes = {32, 8}, apart = {4, 1}, one = {1, 1};
    assert_true(gather_s(&slow, one, 1e9) == 0 && exchange_s(&slow, one, 1e9) == 0);
    /* 7/8 of 80 GB at 80 GB/s, and 7 times the latency */
    assert_true(close_to(gather_s(&slow, node, 80e9), 0.875 + 7));
    /* across: 3/4 of 80 GB over 8 ways of 8 GB/s is 0.9375 s, more than 0.875; 7 and 3 latencies */
    assert_true(close_to(gather_s(&slow, nodes, 80e9), 0.9375 + 7 + 6));
    assert_true(close_to(gather_s(&slow, apart, 8e9), 0.75 + 6));
    /* to all: 7/32 stays in the node, 24/32 leaves it at 8 GB/s */
    assert_true(close_to(exchange_s(&slow, nodes, 8e9), 0.75 + 1 + 2));
    assert_true(close_to(exchange_s(&slow, node, 80e9), 0.875 + 1));
    assert_true(close_to(message_s(&slow, true, 8e9), 1 + 2) &&
                close_to(message_s(&slow, false, 8e9), 0.1 + 1));
    struct machine none = {.intra_Bps = 1e9};
    assert_true(isnan(gather_s(&none, nodes, 1)) && gather_s(&none, node, 1) > 0);
}

/* Two nodes, E = 4, K = 2: both choices are at home with (2·1)/(4·3) = 1/6, so 5/6 of a token cross. */
static void dispatchers(void **state)
{
    struct plan p = {.machine = slow, .model = {.experts = 4, .top_k = 2}};
    struct reach two = {4, 2};
    p.machine.intra_s = p.machine.inter_s = 0;
    assert_true(close_to(dispatch_s(&p, two, 1e6, 8e3, 1), 2e6 * 8e3 * 0.5 / 8e9));
    assert_true(close_to(dispatch_s(&p, two, 1e6, 8e3, 1.5), 1.5 * 2e6 * 8e3 * 0.5 / 8e9));
    p.training.dispatcher = DISPATCHER_DEEPEP;
    assert_true(close_to(dispatch_s(&p, two, 1e6, 8e3, 1), 1e6 * 8e3 * (5. / 6) / 8e9));
}

/* 1F1B on two stages and two microbatches:
 *
 *   stage 0   F0 0-1   F1 1-2                   B0 13.5-15.5   B1 25-27
 *   stage 1            F0 1.5-4.5 B0 4.5-13     F1 13-16  B1 16-24.5 (W in B)
 *
 * with F 1 and 3, B 1 and 5, W 1 and 3.5 (so B 2 and 8.5), messages 0.5. */
static void uneven_stages(void **state)
{
    struct plan p = made((struct request){
        .model = "moe-tiny", .axes = {.pp = 2}, .zero = 1, .batch = {.seq = 64, .micro = 1, .global = 2}});
    const struct stage_times times[2] = {{1, 1, 1}, {3, 5, 3.5}};
    struct simulation s;
    assert_int_equal(plan_simulate_stages(&p, times, 0.5, &s), 0);
    assert_true(close_to(s.start_s[1][0], 1.5) && close_to(s.start_s[1][1], 4.5));
    assert_true(close_to(s.start_s[0][2], 13.5)); /* B0, behind B0 of stage 1 at 13 and its message */
    assert_true(close_to(s.start_s[1][3], 16) && close_to(s.start_s[0][3], 25) && close_to(s.span_s, 27));
    assert_true(close_to(s.bubble, 1 - (2 * 3 + 2 * 11.5) / 2 / 27));
    simulation_release(&s);
    plan_release(&p);
}

static struct plan planned(const char *model, struct axes axes, const char *recompute)
{
    return made((struct request){.model = model,
                                 .cluster = "h100",
                                 .axes = axes,
                                 .zero = 1,
                                 .precision = "bf16",
                                 .recompute = recompute,
                                 .batch = {.seq = 4096, .micro = 1, .global = 64}});
}

/* One rank's dense products of Mixtral: 2·T·(H·(2·H + 2·1024)) forward, as much in B and in W. */
static void products(void **state)
{
    struct plan p = planned("mixtral-8x7b", (struct axes){.tp = 1}, "none");
    struct costing c;
    struct layer_cost x;
    strcpy(p.machine.efficiency, "1:0.5"); /* half the peak, whatever the work */
    p.machine.host_s = 0;
    assert_int_equal(costing_init(&c, &p, 0, 1), 0);
    cost_of_layer(&c, 0, &x);
    double T = 4096, H = 4096, half = 989e12 / 2, router = 2 * T * H * 8 / half,
           router_bytes = 2 * (T * H + H * 8 + T * 8) / (MEMORY_SHARE * 3.35e12);
    double dense = 2 * T * H * (2 * H + 2 * 1024) / half;
    assert_true(close_to(x.s[PASS_W][PART_MATRIX], dense));
    assert_true(close_to(x.s[PASS_F][PART_MATRIX], dense + fmax(router, router_bytes)));
    double experts = 2 * T * 2 * 3 * H * 14336 / half; /* K = 2 of them a token */
    for (int pass = 0; pass < PASSES; pass++)
        assert_true(close_to(x.s[pass][PART_EXPERTS], experts));
    double scores = 2 * T * 2048 * 32 * 256 / 989e12;
    assert_true(close_to(x.s[PASS_F][PART_ATTENTION], scores / ATTENTION_SHARE));
    assert_true(x.s[PASS_F][PART_TP] == 0 && x.s[PASS_F][PART_DISPATCH] == 0 && x.s[PASS_F][PART_HOST] == 0);
    double ops = OPS_ATTENTION + OPS_MOE + 8 * OPS_EXPERT;
    p.machine.host_s = 1; /* then it is all that counts */
    cost_of_layer(&c, 0, &x);
    assert_true(close_to(pass_s(&x, PASS_F), ops));
    assert_true(close_to(pass_s(&x, PASS_B) + pass_s(&x, PASS_W), 2 * ops));
    plan_release(&p);
}

/* Rows beside the shared expert: forward each way by one of its halves; backward its down projection and the
 * gradients of its weights, and those of the experts' gate and up, unless the schedule splits them off. */
static void beside(void **state)
{
    struct plan p = planned("glm-4.5-air", (struct axes){.ep = 8, .dp = 8}, "none");
    struct costing c;
    struct layer_cost off, on;
    strcpy(p.machine.efficiency, "1:0.5");
    p.machine.host_s = 0;
    assert_int_equal(costing_init(&c, &p, 0, 1), 0);
    cost_of_layer(&c, 1, &off);
    p.training.overlap = true;
    cost_of_layer(&c, 1, &on);
    double sent = off.s[PASS_F][PART_DISPATCH], down = 2 * 4096. * 4096 * 1408 / (989e12 / 2);
    assert_true(sent / 2 > 4 * down); /* and gate and up have two of it, all weights three */
    assert_true(close_to(on.s[PASS_F][PART_DISPATCH], sent - 3 * down));
    assert_true(sent / 2 < off.s[PASS_W][PART_EXPERTS] * 2 / 3);
    assert_true(off.s[PASS_B][PART_DISPATCH] == sent);
    assert_true(close_to(on.s[PASS_B][PART_DISPATCH], sent / 2 - 4 * down));
    for (int i = 0; i < PARTS; i++)
        assert_true(i == PART_DISPATCH || memcmp(&on.s[PASS_B][i], &off.s[PASS_B][i], sizeof(double)) == 0);
    p.training.schedule = word_index(&schedule_words, "zb-h1");
    cost_of_layer(&c, 1, &on);
    assert_true(close_to(on.s[PASS_B][PART_DISPATCH], sent - down));
    p.machine.device = DEVICE_CPU; /* who computes moves them */
    cost_of_layer(&c, 1, &on);
    p.training.overlap = false;
    cost_of_layer(&c, 1, &off);
    assert_memory_equal(&on, &off, sizeof on);
    plan_release(&p);
}

/* Processors: a product takes its computing and the loading of its weight, of f32 16 bytes an element in three
 * uses; gradients go through memory. */
static void processors(void **state)
{
    struct plan p = planned("mixtral-8x7b", (struct axes){.tp = 1}, "none");
    struct costing c;
    struct layer_cost x;
    p.machine = (struct machine){
        .device = DEVICE_CPU, .flops_f32 = 1e12, .memory_Bps = 1e11, .intra_Bps = 1e13, .efficiency = "1:0.5"};
    p.training.precision = PRECISION_F32;
    assert_int_equal(costing_init(&c, &p, 0, 1), 0);
    cost_of_layer(&c, 0, &x);
    double T = 4096, H = 4096, F = 14336, memory = MEMORY_SHARE * 1e11;
    double each = 2 * T * 2 * 3 * H * F / 5e11, loaded = 8 * 3 * H * F * (16. / 3) / memory;
    for (int pass = 0; pass < PASSES; pass++)
        assert_true(close_to(x.s[pass][PART_EXPERTS], each + loaded));
    assert_true(close_to(weight_bytes(2, 3, 5), 15 * 4));
    /* 1 GB summed by two: half is read and written, two read and one written of half; gathered: half read and
     * written */
    struct shards s = {.padded = {250000000, 0}, .bucket = {250000000, 0}};
    struct stage_times beside = {.f_s = 0.01, .b_s = 0.01, .w_s = 0.01};
    const struct reach two[2] = {{2, 2}, {1, 1}};
    double dp, optimizer;
    update_seconds(&p, &s, two, 1, &beside, &dp, &optimizer);
    assert_true(close_to(dp, (1e9 + 1.5e9 + 1e9) / memory));
    p.machine.intra_Bps = 1e6; /* links that are slower than memory */
    update_seconds(&p, &s, two, 1, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 2 * 0.5e9 / 0.8e6));
    plan_release(&p);
}

/* With overlap: of 10 buckets of 100 MB, each summed in 1 s and gathered in half of that, what a microbatch of
 * the rank leaves uncovered, and at least one bucket. */
static void buckets(void **state)
{
    struct plan p = planned("mixtral-8x7b", (struct axes){.tp = 1}, "none");
    struct shards s = {.padded = {250000000, 0}, .bucket = {25000000, 0}};
    const struct reach two[2] = {{2, 2}, {1, 1}};
    double dp, optimizer, step;
    p.training.zero = 1;
    p.machine = (struct machine){.device = DEVICE_CUDA, .memory_Bps = 1e12, .intra_Bps = 50e6 / LINK_SHARE};
    struct stage_times beside = {.f_s = 2, .b_s = 3, .w_s = 1};
    update_seconds(&p, &s, two, 100, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 10 + 5)); /* without */
    p.training.overlap = true;
    step = update_seconds(&p, &s, two, 100, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 10 - 4 * 0.9 + 5 - 2 * 0.9) && close_to(step, 100 + dp + optimizer));
    beside = (struct stage_times){.f_s = 20, .b_s = 20, .w_s = 0};
    update_seconds(&p, &s, two, 100, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 1 + 0.5)); /* the last bucket of each */
    p.training.zero = 0;                /* sums come back to all at once, before the update */
    update_seconds(&p, &s, two, 100, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 2));
    s.bucket[0] = s.padded[0]; /* one bucket is whole at the very end */
    update_seconds(&p, &s, two, 100, &beside, &dp, &optimizer);
    assert_true(close_to(dp, 20));
    plan_release(&p);
}

/* Every family: seconds are there, add up, and grow with what makes work. */
static void families_cost(void **state)
{
    static const char *const models[] = {
        "mixtral-8x7b", "qwen3-next-80b-a3b", "deepseek-v2-lite", "deepseek-v3",
        "gpt-oss-20b",  "glm-4.5-air",        "olmoe-7b",         "moe-7b"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct plan p = planned(models[i], (struct axes){.tp = 2, .ep = 8, .dp = 8}, "none"),
                    full = planned(models[i], (struct axes){.tp = 2, .ep = 8, .dp = 8}, "full");
        struct seconds s, skewed, again;
        assert_int_equal(plan_seconds(&p, 1, &s), 0);
        assert_int_equal(plan_seconds(&p, 2, &skewed), 0);
        assert_int_equal(plan_seconds(&full, 1, &again), 0);
        double sum = s.idle_s + s.dp_s + s.optimizer_s;
        for (int k = 0; k < PARTS; k++)
            sum += s.part_s[k];
        if (!(s.step_s > 0) || !close_to(sum, s.step_s))
            fail_msg("%s: %g s, the parts %g", models[i], s.step_s, sum);
        assert_true(skewed.part_s[PART_EXPERTS] > s.part_s[PART_EXPERTS]);
        assert_true(skewed.part_s[PART_DISPATCH] > 1.5 * s.part_s[PART_DISPATCH]);
        assert_true(skewed.step_s >= s.step_s * (1 - 1e-12) && again.step_s > s.step_s);
        /* six all-to-alls for four */
        assert_true(close_to(again.part_s[PART_DISPATCH], 1.5 * s.part_s[PART_DISPATCH]));
        assert_true(p.predict.mfu > 0 && p.predict.mfu < 0.7);
        plan_release(&p);
        plan_release(&full);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves),        cmocka_unit_test(links),    cmocka_unit_test(dispatchers),
        cmocka_unit_test(uneven_stages), cmocka_unit_test(products), cmocka_unit_test(families_cost),
        cmocka_unit_test(processors),    cmocka_unit_test(buckets),  cmocka_unit_test(beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
