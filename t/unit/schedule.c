/* SPDX-License-Identifier: MIT */
/* Schedules against their formulas, and when the simulation starts each operation. */
#include <math.h>

#include "base/num.h"
#include "cost/simulate.h"
#include "lib/unit.h"
#include "plan/schedule.h"

struct bare {
    struct plan p;
    struct simulation s;
};

static void play(struct bare *b, const char *schedule, int64_t p, int64_t m, int64_t v, double w)
{
    b->p = (struct plan){.axes = {.pp = p, .vpp = v}, .batch = {.microbatches = m}};
    b->p.training.schedule = word_index(&schedule_words, schedule);
    schedule_make(&b->p);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_start_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
