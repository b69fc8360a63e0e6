/* SPDX-License-Identifier: MIT */
/* What measuring a machine rests on, without measuring: who meets whom, who is to blame, and what fits. */
#include "lib/unit.h"

#include <math.h>

#include "base/memory.h"
#include "cost/layer.h"
#include "probe/calibrate_fit.h"
#include "probe/health.h"

/* Every two meet once, both know it, and few rounds go by. */
static void test_all_meet(void **state)
{
    for (int n = 2; n <= 64; n++) {
        int met[64][64] = {{0}};
        assert_int_equal(link_rounds(n), n % 2 ? n : n - 1);
        for (int r = 0; r < link_rounds(n); r++)
            for (int i = 0; i < n; i++) {
                int peer = link_partner(n, r, i);
                assert_in_range(peer, 0, n - 1);
                assert_int_equal(link_partner(n, r, peer), i);
                met[i][peer]++;
            }
        for (int i = 0; i < n; i++)
            for (int k = 0; k < n; k++)
                if (i != k)
                    assert_int_equal(met[i][k], 1);
    }
}

static void test_many_meet_few(void **state)
{
    static const int sizes[] = {65, 100, 128, 1000};
    for (int s = 0; s < 4; s++) {
        int n = sizes[s];
        assert_in_range(link_rounds(n), 6, 10);
        for (int r = 0; r < link_rounds(n); r++)
            for (int i = 0; i < n; i++)
                assert_int_equal(link_partner(n, r, link_partner(n, r, i)), i);
    }
}

static struct health_rank well(void)
{
    struct health_rank r = {.host = "h", .crowd = 1, .links = 3};
    for (int i = 0; i < HEALTH_CHECKS; i++)
        r.value[i] = 10;
    return r;
}

static void test_blame(void **state)
{
    struct health_rank rank[4] = {well(), well(), well(), well()};
    struct health h = {.ranks = 4, .rank = rank};
    for (int i = 0; i < HEALTH_CHECKS; i++)
        h.expect[i] = (struct expectation){10, 0.6, "a test"};
    assert_true(health_healthy(&h));
    rank[2].value[HEALTH_PRODUCTS] = 5.9;
    assert_true(health_slow(&h, 2, HEALTH_PRODUCTS) && health_sick(&h, 2) && !health_sick(&h, 1));
    assert_false(health_healthy(&h));
    h.expect[HEALTH_PRODUCTS].value = NAN; /* nothing is known: nothing is wrong */
    assert_true(health_healthy(&h));
    rank[2].value[HEALTH_DISK] = NAN; /* nor where nothing was measured */
    assert_true(health_healthy(&h));
    rank[1].value[HEALTH_TEMPERATURE] = 10.1; /* where less is better no share of it is well */
    assert_true(health_slow(&h, 1, HEALTH_TEMPERATURE) && health_sick(&h, 1) && !health_sick(&h, 0));
    rank[1].value[HEALTH_TEMPERATURE] = 0;
    assert_true(health_healthy(&h));
    rank[1].slow = rank[3].slow = 1; /* one link, of two ranks that have others */
    assert_true(!health_sick(&h, 1) && !health_sick(&h, 3) && !health_healthy(&h));
    rank[3].slow = 2; /* of three */
    assert_true(health_links_slow(&h, 3) && health_sick(&h, 3) && !health_sick(&h, 1));
    rank[3].links = rank[3].slow = 1; /* its only one: who knows */
    assert_false(health_sick(&h, 3));
}

/* Seconds that a latency and a bandwidth make are found again; noise shows in the residual. */
static void test_line(void **state)
{
    struct observation list[8];
    double a, b;
    for (int i = 0; i < 8; i++)
        list[i] = (struct observation){pow(8, i), 1 + i % 3, 0};
    for (int i = 0; i < 8; i++)
        list[i].seconds = 2e-10 * list[i].x + 3e-6 * list[i].y;
    assert_true(fit_line(list, 8, &a, &b) < 1e-9);
    assert_true(fabs(a / 2e-10 - 1) < 1e-6 && fabs(b / 3e-6 - 1) < 1e-6);
    for (int i = 0; i < 8; i++)
        list[i].seconds *= i % 2 ? 1.1 : 0.9;
    double residual = fit_line(list, 8, &a, &b);
    assert_true(residual > 0.05 && residual < 0.12 && fabs(a / 2e-10 - 1) < 0.11);
    assert_true(fabs(line_residual(list, 8, a, b) - residual) < 1e-12);
    for (int i = 0; i < 8; i++) /* no latency: never a negative one */
        list[i].seconds = 2e-10 * list[i].x * (i < 4 ? 0.8 : 1.2);
    fit_line(list, 8, &a, &b);
    assert_true(a > 0 && b >= 0);
    assert_true(isnan(fit_line(list, 0, &a, &b)) && a == 0 && b == 0);
}

/* A machine of which all is known is found from what it would measure. */
static void test_fit(void **state)
{
    struct backend be = {0};
    struct probe p = {.host = "h", .bench = {.be = &be}};
    struct calibration c = {.p = &p, .nodes = 2, .per_node = 4, .memory_bytes = 4e9, .memory_Bps = 20e9};
    const struct machine of[] = {{.intra_Bps = 10e9, .intra_s = 1e-6},
                                 {.intra_Bps = INFINITY, .inter_Bps = 2e9, .inter_s = 20e-6}};
    for (int type = F32; type <= BF16; type++)
        for (int i = 0; i < 5; i++)
            for (int use = PRODUCT_FORWARD; use <= PRODUCT_WEIGHT; use++) {
                struct multiply x = {.m = 100 << i, .n = 500, .k = 500, .use = use, .type = type};
                double rate = (type == F32 ? 100e9 : 200e9) * (i == 0 ? 0.5 : 1);
                calibrate_add_product(
                    &c, &x, product_flops(&x) / rate + weight_bytes((double)type_bytes(type), 500, 500) / 20e9);
            }
    for (int size = 2; size <= 4; size *= 2)
        for (int across = 0; across < 2; across++)
            for (size_t bytes = 4096; bytes <= 2 << 20; bytes *= 8) {
                const struct machine *m = &of[across];
                const struct reach r = {size, across ? 1 : size};
                calibrate_add_wire(&c, WIRE_MESSAGE, r, bytes, message_s(m, across, (double)bytes));
                calibrate_add_wire(&c, WIRE_GATHER, r, bytes, gather_s(m, r, (double)bytes));
                calibrate_add_wire(&c, WIRE_REDUCE, r, bytes, 2 * gather_s(m, r, (double)bytes));
                calibrate_add_wire(&c, WIRE_EXCHANGE, r, bytes, exchange_s(m, r, (double)bytes));
            }
    json_t *root = calibrate_cluster(&c), *flops = json_object_get(root, "flops");
    const struct {
        const json_t *in;
        const char *key;
        double value;
    } figures[] = {
        {flops, "f32", 100e9},     {flops, "bf16", 200e9},     {root, "memory_Bps", 20e9 / MEMORY_SHARE},
        {root, "intra_Bps", 10e9}, {root, "inter_Bps", 2e9},   {root, "intra_s", 1e-6},
        {root, "inter_s", 20e-6},  {root, "memory_bytes", 4e9}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        assert_true(fabs(json_number_value(json_object_get(figures[i].in, figures[i].key)) / figures[i].value -
                         1) < 1e-6);
    json_t *first = json_array_get(json_object_get(root, "efficiency"), 0);
    assert_true(fabs(json_number_value(json_array_get(first, 1)) - 0.5) < 1e-9);
    json_decref(root);
    c.measured = 10;
    c.disturbed = 2;
    assert_int_equal(calibrate_judge(&c, 0.2), 0);
    c.disturbed = 3;
    assert_int_equal(calibrate_judge(&c, 0.2), -1);
    assert_int_equal(error_status(), STATUS_ENV);
    calibration_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_meet), cmocka_unit_test(test_many_meet_few), cmocka_unit_test(test_blame),
        cmocka_unit_test(test_line),     cmocka_unit_test(test_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
