/* SPDX-License-Identifier: MIT */
/* What measuring a machine rests on, without measuring: who meets whom, and who is to blame. */
#include "lib/unit.h"

#include <math.h>

#include "base/memory.h"
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
    rank[1].slow = rank[3].slow = 1; /* one link, of two ranks that have others */
    assert_true(!health_sick(&h, 1) && !health_sick(&h, 3) && !health_healthy(&h));
    rank[3].slow = 2; /* of three */
    assert_true(health_links_slow(&h, 3) && health_sick(&h, 3) && !health_sick(&h, 1));
    rank[3].links = rank[3].slow = 1; /* its only one: who knows */
    assert_false(health_sick(&h, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_meet),
        cmocka_unit_test(test_many_meet_few),
        cmocka_unit_test(test_blame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
