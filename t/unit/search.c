/* SPDX-License-Identifier: MIT */
/* The search, against opening and simulating everything, and against the plans it stands for. */
#include <math.h>

#include "choose/search.h"
#include "cost/communicators.h"
#include "lib/plans.h"
#include "lib/unit.h"

struct job {
    const char *model;
    int64_t world, global, per_node;
    double memory; /* 0: the cluster's */
};
static const struct job jobs[] = {
    {"moe-tiny", 4, 8, 8, 0},
    {"moe-tiny", 8, 16, 2, 0},
    {"moe-tiny", 6, 12, 4, 0},
    {"moe-tiny", 8, 8, 3, 1e9},
    {"olmoe-7b", 4, 8, 2, 50e9},
    {"moe-7b", 6, 6, 4, 60e9},
    {"moonlight-16b-a3b", 4, 4, 4, 100e9},
};

static struct layout_search ran(const struct job *j, bool everything)
{
    struct layout_search s;
    struct request r = tiny;
    r.model = j->model;
    r.cluster = "h100";
    r.world = j->world;
    r.batch = (struct batch){.seq = 512, .global = j->global};
    if (search_init(&s, &r) < 0)
        fail_msg("%s", error_text());
    s.base.machine.per_node = j->per_node;
    if (j->memory > 0)
        s.base.machine.memory_bytes = j->memory;
    s.everything = everything;
    if (search_run(&s) < 0)
        fail_msg("%s on %d: %s", j->model, (int)j->world, error_text());
    return s;
}

/* All that is within the margin of the best closed form, in the same order with the same seconds. */
static void same_ranking(const struct layout_search *some, const struct layout_search *all)
{
    double least = INFINITY;
    for (int64_t i = 0; i < some->leaf_count; i++)
        least = fmin(least, some->leaves[i].closed_s);
    int64_t k = 0;
    for (; k < all->leaf_count && all->leaves[k].step_s <= SEARCH_MARGIN * least; k++) {
        assert_true(k < some->leaf_count);
        if (some->leaves[k].step_s != all->leaves[k].step_s ||
            some->leaves[k].memory_bytes != all->leaves[k].memory_bytes)
            fail_msg("place %lld: %.17g s, and %.17g with everything simulated", (long long)k,
                     some->leaves[k].step_s, all->leaves[k].step_s);
    }
    assert_true(k > 0 && some->leaves[0].step_s == all->leaves[0].step_s);
}

/* A closed form is never more than what is simulated, a node's bound never more than a leaf. */
static void bounds_hold(const struct layout_search *s)
{
    for (int64_t i = 0; i < s->leaf_count; i++) {
        const struct leaf *x = &s->leaves[i];
        if (x->closed_s > x->step_s * (1 + 1e-9) || s->nodes[x->node].bound_s > x->closed_s * (1 + 1e-9))
            fail_msg("schedule %d: bound %.17g, closed %.17g, simulated %.17g", x->schedule,
                     s->nodes[x->node].bound_s, x->closed_s, x->step_s);
    }
}

/* Nor are bytes more than what is laid out, and with one chunk a rank they are those. */
static void bytes_bound(const struct layout_search *s)
{
    for (int64_t i = 0; i < s->leaf_count; i += 7) {
        const struct leaf *x = &s->leaves[i];
        struct opened o;
        double bytes;
        opened_init(&o, &s->base, &s->splits, &s->nodes[x->node]);
        o.p.training.schedule = x->schedule;
        o.p.training.zero = x->zero;
        assert_true(opened_stages(&o, x->vpp, x->automatic));
        assert_int_equal(memory_closed(&o, false, &bytes), 0);
        if (bytes > x->memory_bytes || (x->vpp == 1 && bytes != x->memory_bytes))
            fail_msg("schedule %d, vpp %d: %.0f bytes at least, %.0f laid out", x->schedule, x->vpp, bytes,
                     x->memory_bytes);
        opened_release(&o);
    }
}

/* The plan predicts what the search says, and fits. */
static void plans_agree(const struct layout_search *s)
{
    for (int64_t i = 0; i < s->leaf_count; i += 1 + s->leaf_count / 40) {
        struct plan p;
        if (search_plan(s, &s->leaves[i], NULL, &p) < 0)
            fail_msg("%s", error_text());
        double step = s->leaves[i].step_s;
        if (fabs(p.predict.step_s - step) > 1e-9 * step || p.predict.memory_bytes != s->leaves[i].memory_bytes)
            fail_msg("%s %s: %.17g s, %.0f bytes; the plan %.17g and %.0f", s->base.model.name, p.axes.order,
                     step, s->leaves[i].memory_bytes, p.predict.step_s, p.predict.memory_bytes);
        assert_true(needed_bytes(&p.predict) <= p.machine.memory_bytes);
        search_plan_release(&p);
    }
}

static void nothing_lost(void **state)
{
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        struct layout_search some = ran(&jobs[i], false), all = ran(&jobs[i], true);
        assert_true(all.legal == some.legal && all.costed == all.legal && all.pruned == 0);
        assert_true(some.costed + some.pruned == some.legal && some.pruned > 0);
        assert_true(all.simulated >= some.simulated && all.simulated == all.fit);
        same_ranking(&some, &all);
        bounds_hold(&all);
        bytes_bound(&all);
        plans_agree(&all);
        search_release(&some);
        search_release(&all);
    }
}

/* The legal set, counted by plan_make() over everything that could be. */
static void all_legal(void **state)
{
    struct request r = tiny;
    struct layout_search s;
    int64_t count = 0;
    r.cluster = "h100";
    r.world = 4;
    r.batch = (struct batch){.seq = 64, .global = 4};
    r.axes = (struct axes){.order = "tp-cp-ep-dp-pp"};
    r.split = "auto";
    r.zero = 1;
    r.recompute = "none";
    assert_int_equal(search_init(&s, &r), 0);
    s.everything = true;
    assert_int_equal(search_run(&s), 0);
    static const char *const names[] = {"gpipe", "1f1b", "interleaved", "zb-h1"};
    struct axes a = r.axes;
    for (int code = 0; code < 5 * 5 * 5 * 5 * 5 * 5 * 5 * 4; code++) {
        int64_t *const to[] = {&a.tp, &a.cp, &a.etp, &a.ep, &a.pp, &a.vpp, &r.batch.micro};
        int rest = code;
        for (size_t k = 0; k < 7; k++, rest /= 5)
            *to[k] = rest % 5;
        const char *name = names[rest];
        bool skip = false;
        for (size_t k = 0; k < 7; k++)
            skip = skip || *to[k] == 0 || (k < 5 && 4 % *to[k]);
        if (skip || a.tp * a.cp * a.pp > 4 || a.etp * a.ep * a.pp > 4 || a.pp * a.vpp > s.base.model.layers ||
            (a.pp == 1 && strcmp(name, "1f1b") != 0))
            continue;
        struct request one = r;
        struct plan p;
        one.axes = a;
        one.schedule = name;
        if (plan_make(&p, &one) < 0)
            continue;
        count++;
        plan_release(&p);
    }
    if (count != s.legal)
        fail_msg("%lld layouts are legal, %lld are searched", (long long)count, (long long)s.legal);
    search_release(&s);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_lost),
        cmocka_unit_test(all_legal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
