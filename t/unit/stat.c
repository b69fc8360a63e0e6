/* SPDX-License-Identifier: MIT */
/* What moe-stat counts with: numbers read as strtod() reads them, percentiles found bits by bits, lists longer
 * than memory, and a comparison of runs that is not fooled by steps that are like those before them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/memory.h"
#include "stat/compare.h"
#include "stat/cursor.h"
#include "stat/quantile.h"
#include "stat/summary.h"

static uint64_t seed;

static uint64_t random_bits(void)
{
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* In (0, 1). */
static double random_part(void)
{
    return ((double)(random_bits() >> 12) + 0.5) / 4503599627370496.0;
}

static double random_normal(void)
{
    return sqrt(-2 * log(random_part())) * cos(2 * M_PI * random_part());
}

/* ---- numbers ---- */

/* Whether the cursor takes it for a number, all of it; the value. */
static bool read_number(const char *text, double *value)
{
    char line[400] = {0};
    struct json_cursor c = {line};
    snprintf(line, sizeof line, "%.300s\n", text);
    return cursor_real(&c, value) && *c.p == '\n';
}

static void same_as_strtod(const char *text)
{
    double x, want = strtod(text, NULL);
    if (!read_number(text, &x) || memcmp(&x, &want, sizeof x) != 0)
        fail_msg("%s is read as %.17g, not %.17g", text, x, want);
}

static void numbers(void **state)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "-0.0",
                                       "1e0",
                                       "9007199254740993",
                                       "9007199254740992.5",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "9223372036854775807",
                                       "-9223372036854775808",
                                       "0.1",
                                       "1e22",
                                       "1e23",
                                       "123456789012345678e-27",
                                       "2.2250738585072014e-308",
                                       "4.9e-324",
                                       "1.7976931348623157e308",
                                       "1e999",
                                       "1e-999",
                                       "0.000000000000000000001",
                                       "1.00000000000000011102230246251565404",
                                       "1e00000000000000000005"};
    static const char *const bad[] = {"",    "-",  "01",   "1.",  ".5",  "1e",
                                      "1e+", "+1", "0x10", "1 2", "--1", "1.e5"};
    double x;
    char text[400];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        same_as_strtod(good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (read_number(bad[i], &x))
            fail_msg("'%s' is read as a number", bad[i]);
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = random_bits();
        memcpy(&x, &bits, sizeof x);
        if (isfinite(x)) {
            snprintf(text, sizeof text, "%.17g", x);
            same_as_strtod(text);
        }
        snprintf(text, sizeof text, "%.*g", (int)(bits % 20) + 1, exp(40 * (random_part() - 0.5)));
        same_as_strtod(text);
        snprintf(text, sizeof text, "%llue%d", (unsigned long long)bits, (int)(bits % 60) - 30);
        same_as_strtod(text);
    }
    assert_true(read_number("NaN", &x) && isnan(x));
    assert_true(read_number("-Infinity", &x) && x == -INFINITY);
    assert_true(read_number("null", &x) && isnan(x));
}

/* ---- percentiles ---- */

static bool element(void *of, size_t i, double *value)
{
    *value = ((const double *)of)[i];
    return !isnan(*value);
}

static void percentiles(void **state)
{
    enum { MOST = 5000 };
    static const double p[] = {0, 0.25, 0.5, 0.95, 0.99, 1};
    enum { N = sizeof p / sizeof *p };
    double *v = xcalloc(MOST, sizeof *v), sorted[N], found[N];
    for (size_t n = 1; n <= MOST; n = n * 3 + 1) {
        for (size_t i = 0; i < n; i++)
            v[i] = i % 7 == 3    ? NAN
                   : i % 5 == 0  ? 1.5
                   : i % 11 == 0 ? -0.0
                                 : random_normal() * exp(random_normal());
        size_t a = quantiles(v, n, element, p, N, sorted), b = quantiles_within(0, v, n, element, p, N, found);
        assert_int_equal(a, b);
        assert_memory_equal(sorted, found, sizeof sorted);
    }
    double four[] = {4, 1, 3, 2};
    quantiles(four, 4, element, (double[]){0.5, 0.95}, 2, found);
    assert_true(found[0] == 2.5 && fabs(found[1] - 3.85) < 1e-15);
    free(v);
}

/* ---- spools ---- */

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The same list, in memory and with room for ten records there. */
static void spools(void **state)
{
    enum { N = 100000 };
    for (int k = 0; k < 2; k++) {
        struct spool s;
        struct spool_window w = {0};
        spool_init(&s, sizeof(int64_t));
        if (k == 1)
            s.limit = 10 * sizeof(int64_t);
        for (int64_t i = 0; i < N; i++)
            spool_append(&s, &(int64_t){(i * 7919) % N});
        spool_flush(&s);
        assert_int_equal(s.fd >= 0, k);
        assert_int_equal(*(const int64_t *)spool_read(&s, &w, 12345), 12345LL * 7919 % N);
        spool_sort(&s, ascending);
        spool_window_release(&w);
        for (int64_t i = 0; i < N; i++)
            assert_int_equal(*(const int64_t *)spool_read(&s, &w, (size_t)i), i);
        spool_write(&s, 5, &(int64_t){-1});
        spool_truncate(&s, 6);
        spool_window_release(&w);
        assert_int_equal(*(const int64_t *)spool_read(&s, &w, 5), -1);
        assert_int_equal(spool_error(&s), 0);
        spool_window_release(&w);
        spool_release(&s);
    }
}

/* ---- comparing ---- */

/* A run whose steps take `mean` seconds with 5% of noise, each `alike` times the deviation of the one
 * before. */
static void make_run(struct steplog *log, int steps, double mean, double alike)
{
    double x = random_normal();
    steplog_init(log);
    for (int i = 1; i <= steps; i++) {
        struct step_record r;
        step_record_clear(&r);
        x = alike * x + sqrt(1 - alike * alike) * random_normal();
        r.step = r.at = i;
        r.tokens = 1000;
        r.time_s = mean * (1 + 0.05 * x);
        steplog_add_step(log, &r);
    }
    assert_int_equal(steplog_settle(log), 0);
}

/* In how many of so many pairs B is found slower. */
static int found_slower(int pairs, int steps, double slower, double alike)
{
    int found = 0;
    for (int i = 0; i < pairs; i++) {
        struct steplog a, b;
        struct compare c;
        make_run(&a, steps, 1, alike);
        make_run(&b, steps, 1 + slower, alike);
        assert_int_equal(compare_make(&c, &a, &b, 0, 0), 0);
        found += compare_slower(&c);
        steplog_release(&a);
        steplog_release(&b);
    }
    return found;
}

/* At p < 0.01 one pair in a hundred may be wrong. A test that took steps for independent would be wrong in one
 * of four where each keeps 0.8 of the one before. */
static void compared(void **state)
{
    enum { PAIRS = 1000 };
    for (int steps = 50; steps <= 800; steps *= 4)
        for (double alike = 0; alike < 0.9; alike += 0.4) {
            int wrong = found_slower(PAIRS, steps, 0, alike), right = found_slower(20, 800, 0.05, alike);
            print_message("# %d steps, %.1f alike: wrong in %.1f%%, right in %d of 20\n", steps, alike,
                          100.0 * wrong / PAIRS, right);
            if (wrong > PAIRS / 50 || right < 19)
                fail_msg("%d of %d, %d of 20", wrong, PAIRS, right);
        }
}

static void students(void **state)
{
    /* R: 2 * pt(t, df) - 1 */
    assert_true(fabs(student(1, 1) - 0.5) < 1e-14);
    assert_true(fabs(student(2, 2) - 0.81649658092772603) < 1e-14);
    assert_true(fabs(student(2.2281388519649385, 10) - 0.95) < 1e-10);
    assert_true(fabs(student(2.0930240544082634, 19) - 0.95) < 1e-10);
    assert_true(fabs(student(1.9599639845400545, 1000000) - 0.95) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),  cmocka_unit_test(percentiles), cmocka_unit_test(spools),
        cmocka_unit_test(students), cmocka_unit_test(compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
