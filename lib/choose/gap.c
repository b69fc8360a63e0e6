/* SPDX-License-Identifier: MIT */
#include "choose/gap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "check/limits.h"
#include "check/runnable.h"
#include "cost/communicators.h"
#include "cost/predict.h"
#include "plan/schedule.h"

#define LEAST_GAIN 1e-3 /* of the step: less is no reason to change anything */

const char *const choice_name[CHOICES] = {"tp",          "cp",       "etp",   "ep",   "pp",        "vpp",
                                          "micro-batch", "schedule", "split", "zero", "recompute", "order"};

/* ---- a layout as choices ---- */

/* "2,2,3" of the plan's stages. Caller frees. */
static char *own_split(const struct plan *p)
{
    char *text = xmalloc((size_t)p->stage_count * 12 + 1), *at = text;
    *text = '\0';
    for (int i = 0; i < p->stage_count; i++)
        at += sprintf(at, i ? ",%d" : "%d", p->stages[i].layers);
    return text;
}

static struct layout_choice choice_of(const struct plan *p)
{
    return (struct layout_choice){.axes = p->axes,
                                  .micro = p->batch.micro,
                                  .schedule = p->training.schedule,
                                  .zero = p->training.zero,
                                  .recompute = p->training.recompute,
                                  .split = SPLIT_OWN};
}

/* What follows from the others; false when it is no layout. */
static bool complete(const struct plan *job, struct layout_choice *c)
{
    struct axes *a = &c->axes;
    int64_t dense = a->tp * a->cp * a->pp, experts = a->etp * a->ep * a->pp;
    if (job->world % dense || job->world % experts)
        return false;
    a->dp = job->world / dense;
    a->edp = job->world / experts;
    if (a->pp == 1)
        a->vpp = 1;
    if (schedules[c->schedule].chunks != (a->vpp > 1))
        c->schedule = schedule_default(a->vpp);
    return a->vpp * a->pp <= job->model.layers && job->batch.global % (a->dp * c->micro) == 0;
}

static bool is_fixed(const struct request *r, const struct layout_choice *c)
{
    const int64_t want[] = {r->axes.tp, r->axes.cp,  r->axes.etp, r->axes.ep,    r->axes.edp,
                            r->axes.pp, r->axes.vpp, r->axes.dp,  r->batch.micro},
                  have[] = {c->axes.tp, c->axes.cp,  c->axes.etp, c->axes.ep, c->axes.edp,
                            c->axes.pp, c->axes.vpp, c->axes.dp,  c->micro};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (want[i] && want[i] != have[i])
            return false;
    return (r->zero < 0 || r->zero == c->zero) &&
           (!r->schedule || strcmp(r->schedule, schedules[c->schedule].name) == 0) &&
           (!r->recompute || strcmp(r->recompute, recompute_name[c->recompute]) == 0) &&
           (!*r->axes.order || strcmp(r->axes.order, c->axes.order) == 0);
}

/* Its step and memory: false when it is not legal, does not fit, or is not to be looked at. */
static bool price(const struct gap *g, const struct layout_choice *c, struct layout_change *out)
{
    struct plan p = g->search.base;
    char *own = c->split == SPLIT_OWN ? own_split(&g->plan) : NULL;
    const char *given = g->search.request.split, *split = given ? given : c->split == SPLIT_AUTO ? "auto" : own;
    p.axes = c->axes;
    p.batch.micro = c->micro;
    p.batch.microbatches = p.batch.global / (c->micro * c->axes.dp);
    p.training.schedule = c->schedule;
    p.training.zero = c->zero;
    p.training.recompute = c->recompute;
    bool good = plan_finish(&p, split, NULL) == 0;
    good =
        good && plan_fits(&p) && (!g->only_runnable || plan_within_limits(&p) == 0) && !isnan(p.predict.step_s);
    error_clear();
    out->at = *c;
    out->step_s = p.predict.step_s;
    out->memory_bytes = p.predict.memory_bytes;
    search_plan_release(&p);
    free(own);
    return good;
}

/* ---- changes ---- */

/* The changes of one choice, and the best of them so far. */
struct trial {
    struct gap *g;
    const struct layout_choice *from;
    enum choice choice;
    struct layout_change *best;
};

static void say_change(const struct trial *t, const struct layout_choice *c, char *to, size_t room)
{
    const struct axes *a = &c->axes;
    const long long number[] = {a->tp, a->cp, a->etp, a->ep, a->pp, a->vpp, c->micro};
    const char *with = ", with";
    size_t n;
    if (t->choice <= CHOICE_MICRO)
        snprintf(to, room, "%lld", number[t->choice]);
    else
        snprintf(to, room, "%s",
                 t->choice == CHOICE_SCHEDULE    ? schedules[c->schedule].name
                 : t->choice == CHOICE_SPLIT     ? (c->split == SPLIT_AUTO ? "auto" : "even")
                 : t->choice == CHOICE_RECOMPUTE ? recompute_name[c->recompute]
                 : t->choice == CHOICE_ORDER     ? a->order
                                                 : "");
    if (t->choice == CHOICE_ZERO)
        snprintf(to, room, "%d", c->zero);
    if (t->choice != CHOICE_VPP && a->vpp != t->from->axes.vpp && (n = strlen(to)) < room) {
        snprintf(to + n, room - n, "%s vpp %lld", with, (long long)a->vpp);
        with = ",";
    }
    if (t->choice != CHOICE_SCHEDULE && c->schedule != t->from->schedule && (n = strlen(to)) < room)
        snprintf(to + n, room - n, "%s %s", with, schedules[c->schedule].name);
}

static void attempt(const struct trial *t, struct layout_choice c)
{
    struct layout_change x = {.choice = t->choice};
    if (c.axes.pp * c.axes.vpp != t->from->axes.pp * t->from->axes.vpp && c.split == SPLIT_OWN)
        c.split = SPLIT_EVEN;
    if (!complete(&t->g->search.base, &c) || !is_fixed(&t->g->search.request, &c) || !price(t->g, &c, &x))
        return;
    if (isnan(t->best->step_s) || x.step_s < t->best->step_s * (1 - 1e-9)) {
        *t->best = x;
        say_change(t, &c, t->best->to, sizeof t->best->to);
    }
}

static void try_axis(const struct trial *t, size_t at, int64_t most)
{
    for (int64_t n = 1; n <= most; n++) {
        struct layout_choice c = *t->from;
        int64_t *axis = (int64_t *)((char *)&c.axes + at);
        if (n == *axis || t->g->search.base.world % n)
            continue;
        *axis = n;
        attempt(t, c);
    }
}

static void try_vpp(const struct trial *t)
{
    for (int64_t n = 1; n * t->from->axes.pp <= t->g->search.base.model.layers; n++) {
        struct layout_choice c = *t->from;
        c.axes.vpp = n;
        if (n != t->from->axes.vpp)
            attempt(t, c);
    }
}

static void try_micro(const struct trial *t)
{
    int64_t each = t->g->search.base.batch.global / t->from->axes.dp;
    for (int64_t n = 1; n <= each; n++) {
        struct layout_choice c = *t->from;
        c.micro = n;
        if (each % n == 0 && n != t->from->micro)
            attempt(t, c);
    }
}

/* vpp goes with it: 1 where a schedule takes no chunks. */
static void try_schedules(const struct trial *t)
{
    for (int k = 0; schedules[k].name && t->from->axes.pp > 1; k++) {
        struct layout_choice c = *t->from;
        c.schedule = k;
        if (!schedules[k].chunks)
            c.axes.vpp = 1;
        if (k != t->from->schedule && schedules[k].chunks == (c.axes.vpp > 1))
            attempt(t, c);
    }
}

static void try_orders(const struct trial *t)
{
    const struct layout_search *s = &t->g->search;
    struct plan p = s->base;
    struct order_spread *seen = xcalloc((size_t)s->order_count, sizeof *seen);
    int count = 0;
    p.axes = t->from->axes;
    for (int i = 0; i < s->order_count; i++) {
        struct layout_choice c = *t->from;
        bool known =
            strcmp(s->orders[i].text, c.axes.order) == 0 || !spread_make(&seen[count], &p, &s->orders[i]);
        for (int k = 0; k < count && !known; k++)
            known = spread_alike(&seen[k], &seen[count]);
        if (known)
            continue;
        count++;
        snprintf(c.axes.order, sizeof c.axes.order, "%s", s->orders[i].text);
        attempt(t, c);
    }
    free(seen);
}

static void try_words(const struct trial *t)
{
    for (int k = 0; k < 4; k++) {
        struct layout_choice c = *t->from;
        if (t->choice == CHOICE_ZERO && k != c.zero) {
            c.zero = k;
            attempt(t, c);
        } else if (t->choice == CHOICE_RECOMPUTE && k <= RECOMPUTE_FULL && k != (int)c.recompute) {
            c.recompute = (enum recompute)k;
            attempt(t, c);
        } else if (t->choice == CHOICE_SPLIT && k <= SPLIT_AUTO && k != (int)c.split) {
            c.split = (enum split_kind)k;
            attempt(t, c);
        }
    }
}

/* The best change of one choice. */
static void try_choice(struct gap *g, const struct layout_choice *from, enum choice choice,
                       struct layout_change *best)
{
    const struct trial t = {g, from, choice, best};
    const struct model *m = &g->search.base.model;
    int64_t world = g->search.base.world;
    *best = (struct layout_change){.choice = choice, .step_s = NAN};
    switch (choice) {
    case CHOICE_TP:
        try_axis(&t, offsetof(struct axes, tp), min64(world, m->heads));
        break;
    case CHOICE_CP:
        try_axis(&t, offsetof(struct axes, cp), g->only_runnable ? 1 : world);
        break;
    case CHOICE_ETP:
        try_axis(&t, offsetof(struct axes, etp), min64(world, max64(1, m->expert_ffn)));
        break;
    case CHOICE_EP:
        try_axis(&t, offsetof(struct axes, ep), min64(world, max64(1, m->experts)));
        break;
    case CHOICE_PP:
        try_axis(&t, offsetof(struct axes, pp), min64(world, m->layers));
        break;
    case CHOICE_VPP:
        try_vpp(&t);
        break;
    case CHOICE_MICRO:
        try_micro(&t);
        break;
    case CHOICE_SCHEDULE:
        try_schedules(&t);
        break;
    case CHOICE_ORDER:
        try_orders(&t);
        break;
    default:
        try_words(&t);
    }
}

static void walk(struct gap *g)
{
    struct layout_choice from = g->at;
    double step = g->plan.predict.step_s;
    while (g->path_count < PATH_MOST) {
        struct layout_change best = {.step_s = NAN};
        for (int i = 0; i < CHOICES; i++) {
            struct layout_change x;
            progress("changes on the way", (uint64_t)(g->path_count * CHOICES + i), PATH_MOST * CHOICES,
                     "tried");
            if (g->path_count == 0)
                x = g->alone[i];
            else
                try_choice(g, &from, (enum choice)i, &x);
            if (!isnan(x.step_s) && (isnan(best.step_s) || x.step_s < best.step_s))
                best = x;
        }
        if (!(best.step_s < step * (1 - LEAST_GAIN)))
            return;
        g->path[g->path_count++] = best;
        from = best.at;
        step = best.step_s;
    }
}

/* ---- the whole ---- */

static bool runs(const struct plan *p)
{
    bool r = plan_within_limits(p) == 0;
    error_clear();
    return r;
}

int gap_find(struct gap *g, const struct request *r, bool any)
{
    *g = (struct gap){.plan = *r->like, .at = choice_of(r->like)};
    TRY(plan_sound(r->like));
    g->runs = runs(r->like);
    g->only_runnable = g->runs && !any;
    TRY(search_init(&g->search, r));
    g->search.only_runnable = g->only_runnable;
    TRY(plan_predict(&g->plan));
    TRY(search_run(&g->search));
    TRY(search_plan(&g->search, g->search.leaves, NULL, &g->best));
    g->best_runs = runs(&g->best);
    TRY(shares_of(&g->plan, &g->plan_share));
    TRY(shares_of(&g->best, &g->best_share));
    for (int i = 0; i < CHOICES; i++) {
        progress("choices", (uint64_t)i, CHOICES, "changed");
        try_choice(g, &g->at, (enum choice)i, &g->alone[i]);
    }
    walk(g);
    progress_end();
    return 0;
}

void gap_release(struct gap *g)
{
    if (g->best.world)
        search_plan_release(&g->best);
    search_release(&g->search);
}
