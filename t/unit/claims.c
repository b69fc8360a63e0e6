/* SPDX-License-Identifier: MIT */
/* Claims: bounds, and which agree, against what trying one step time after the other finds. */
#include <math.h>
#include <string.h>

#include "claim/agree.h"
#include "lib/plans.h"

static void bounds(void **state)
{
    static const struct {
        const char *text;
        enum unit unit;
        double low, high;
    } good[] = {
        {"< 5%", UNIT_RATIO, -INFINITY, 0.05},     {">= 2 min", UNIT_SECONDS, 120, INFINITY},
        {"~ 45 ms", UNIT_SECONDS, 0.0405, 0.0495}, {"= 8.5%", UNIT_RATIO, 0.0845, 0.0855},
        {"= 1.00", UNIT_NUMBER, 0.995, 1.005},     {"~800K", UNIT_RATE, 720000, 880000},
        {"= 12e3", UNIT_COUNT, 11500, 12500},      {"<= 2GiB", UNIT_BYTES, -INFINITY, 2147483648.0},
    };
    struct bound b;
    const char *at;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double low, high;
        const char *rest = bound_parse(&b, good[i].text, good[i].unit, &at);
        assert_true(rest && !*rest);
        bound_range(&b, &low, &high);
        assert_true(low == good[i].low || fabs(low - good[i].low) < 1e-9 * fabs(low));
        assert_true(high == good[i].high || fabs(high - good[i].high) < 1e-9 * fabs(high));
        if (isfinite(low))
            assert_true(!bound_holds(&b, low - 1e-6 * fabs(low)) && bound_holds(&b, low + 1e-6 * fabs(low)));
        if (isfinite(high))
            assert_true(bound_holds(&b, high - 1e-6 * fabs(high)) &&
                        !bound_holds(&b, high + 1e-6 * fabs(high)));
        assert_false(bound_holds(&b, NAN));
    }
    assert_null(bound_parse(&b, "< 5 GB", UNIT_SECONDS, &at));
    assert_null(bound_parse(&b, "=> 5", UNIT_NUMBER, &at));
    assert_null(bound_parse(&b, "< inf", UNIT_NUMBER, &at));
}

static struct plan on_gpus(void)
{
    return made((struct request){.model = "moe-tiny",
                                 .cluster = "h100",
                                 .world = 8,
                                 .axes = {.tp = 2, .ep = 2, .pp = 2},
                                 .batch = {.seq = 192, .global = 32},
                                 .precision = "bf16",
                                 .zero = -1});
}

/* The claim when a step takes t. */
static bool holds_at(const struct claim *c, const struct plan *p, double t)
{
    double g = (double)p->batch.global, s = (double)p->batch.seq;
    switch ((enum figure_id)(c->figure - figure_table)) {
    case FIGURE_step_s:
        return bound_holds(&c->bound, t);
    case FIGURE_microbatch_s:
        return bound_holds(&c->bound, t / (double)p->batch.microbatches);
    case FIGURE_sequences_per_s:
        return bound_holds(&c->bound, g / t);
    case FIGURE_tokens_per_s:
        return bound_holds(&c->bound, g * s / t);
    default:
        return bound_holds(&c->bound, g * s * p->predict.flops_per_token / (8 * 989e12 * t));
    }
}

static bool is_among(uint64_t set, const uint64_t *sets, int count)
{
    for (int i = 0; i < count; i++)
        if ((sets[i] & set) == set)
            return true;
    return false;
}

/* Of the same claims, by trying step times: each set found is within one of a->here, and these are all found.
 * */
static void same_sets(const struct agreement *a, const struct claims *c, const struct plan *p)
{
    enum { MOST = 4096 };
    static uint64_t found[MOST];
    uint64_t here[64];
    int count = 0;
    assert_in_range(a->here_count, 1, 64);
    for (int i = 0; i < a->here_count; i++)
        here[i] = a->here[i].claims;
    for (double t = a->least_s * (1 + 1e-9); t < 1e4; t *= 1.002) {
        uint64_t set = 0;
        for (int i = 0; i < a->count; i++)
            if (holds_at(&c->list[a->bound[i]], p, t))
                set |= (uint64_t)1 << i;
        if (!is_among(set, here, a->here_count))
            fail_msg("at %g s set %lx is of none", t, (unsigned long)set);
        if (count < MOST && !is_among(set, found, count))
            found[count++] = set;
    }
    for (int i = 0; i < a->here_count; i++)
        if (!is_among(here[i], found, count))
            fail_msg("set %lx is at no time", (unsigned long)here[i]);
}

static void sets_that_agree(void **state)
{
    static const char *const names[] = {"step_s", "microbatch_s", "sequences_per_s", "tokens_per_s", "mfu"};
    static const char *const ops[] = {"<", ">", "~", ">="};
    struct plan p = on_gpus();
    double least = 32 * 192 * p.predict.flops_per_token / (8 * 989e12);
    unsigned seed = 7;
    int apart = 0;
    for (int round = 0; round < 4; round++) {
        char text[1024] = "";
        for (int i = 0; i < 9; i++) {
            int n = rand_r(&seed) % 5;
            double t = least * pow(10, 1 + 3 * (rand_r(&seed) % 1000) / 1000.0);
            double m = (double)p.batch.microbatches;
            double x = n == 0 ? t : n == 1 ? t / m : n == 2 ? 32 / t : n == 3 ? 32 * 192 / t : least / t;
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s %g\n", names[n],
                     ops[rand_r(&seed) % 4], x);
        }
        struct claims c;
        struct agreement a;
        assert_int_equal(claims_parse(&c, text, strlen(text), "test"), 0);
        assert_int_equal(claims_agree(&a, &c, &p), 0);
        assert_int_equal(a.count, 9);
        assert_true(fabs(a.least_s - least) < 1e-9 * least);
        same_sets(&a, &c, &p);
        apart += a.here_count > 1;
        agreement_release(&a);
        claims_release(&c);
    }
    assert_true(apart > 0);
    plan_release(&p);
}

/* Two rates that only a length makes agree: tokens a second over sequences a second. */
static void lengths_that_agree(void **state)
{
    struct plan p = on_gpus();
    struct claims c;
    struct agreement a;
    static const char text[] = "tokens_per_s ~ 1000\nsequences_per_s ~ 1\nstate_bytes > 1 TB\n";
    assert_int_equal(claims_parse(&c, text, strlen(text), "test"), 0);
    assert_int_equal(claims_agree(&a, &c, &p), 0);
    const struct places *both = &a.pairs[0 * 3 + 1];
    assert_true(both->seq.low == 832 && both->seq.high == 1216); /* 900/1.1 = 818.2, 1100/0.9 = 1222.2 */
    assert_true(both->top_k.low > both->top_k.high);
    assert_true(both->all_top_k.low == 1 && both->all_top_k.high == p.model.experts);
    assert_true(a.apart_here[0] >> 1 & 1);
    assert_int_equal(a.anywhere, 3);
    agreement_release(&a);
    claims_release(&c);
    plan_release(&p);
}

static void too_many(void **state)
{
    struct plan p = on_gpus();
    struct claims c;
    struct agreement a;
    char text[AGREE_MOST * 12 + 100] = "";
    for (int i = 0; i <= AGREE_MOST; i++)
        strcat(text, "step_s < 1\n");
    assert_int_equal(claims_parse(&c, text, strlen(text), "test"), 0);
    assert_int_equal(claims_agree(&a, &c, &p), -1);
    assert_non_null(strstr(error_text(), "49 claims"));
    claims_release(&c);
    plan_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds),
        cmocka_unit_test(sets_that_agree),
        cmocka_unit_test(lengths_that_agree),
        cmocka_unit_test(too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
