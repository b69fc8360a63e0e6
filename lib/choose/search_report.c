/* SPDX-License-Identifier: MIT */
#include "choose/search_report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "check/limits.h"
#include "cost/communicators.h"
#include "plan/schedule.h"

typedef long long ll;

/* Where the seconds of a step go: the parts, and what is around them. */
enum { SHARES = PARTS + 3 };
struct shown {
    struct plan p;
    double share[SHARES];
    bool runs;
    int why;      /* index of the share that costs it most against the best; -1: none, or it is the best */
    double why_s; /* by so much */
};

static const char *share_name(int i)
{
    static const char *const around[] = {"idle in the pipeline", "summing gradients", "optimizer"};
    return i < PARTS ? part_name[i] : around[i - PARTS];
}

static int show(const struct layout_search *s, const struct leaf *leaf, const struct shown *best,
                struct shown *x)
{
    struct seconds t;
    TRY(search_plan(s, leaf, NULL, &x->p));
    TRY(plan_seconds(&x->p, 1, &t));
    memcpy(x->share, t.part_s, sizeof t.part_s);
    x->share[PARTS] = t.idle_s;
    x->share[PARTS + 1] = t.dp_s;
    x->share[PARTS + 2] = t.optimizer_s;
    x->runs = plan_within_limits(&x->p) == 0;
    error_clear();
    x->why = -1;
    x->why_s = 0;
    for (int i = 0; best && i < SHARES; i++)
        if (x->share[i] - best->share[i] > fmax(x->why_s, 1e-6 * best->p.predict.step_s)) {
            x->why_s = x->share[i] - best->share[i];
            x->why = i;
        }
    return 0;
}

/* "dispatch and combine +0.12 s"; "more memory" where it is as fast. */
static void reason(const struct shown *x, const struct shown *best, char text[static 80])
{
    double slower = x->p.predict.step_s - best->p.predict.step_s;
    if (x == best)
        snprintf(text, 80, "the best");
    else if (slower <= 1e-9 * best->p.predict.step_s)
        snprintf(text, 80,
                 x->p.predict.memory_bytes > best->p.predict.memory_bytes ? "as fast, with more memory"
                                                                          : "as fast");
    else if (x->why < 0)
        snprintf(text, 80, "+%.2g%%, in all parts", 100 * slower / best->p.predict.step_s);
    else
        snprintf(text, 80, "%s +%.3g s", share_name(x->why), x->why_s);
}

static int show_all(const struct layout_search *s, int64_t top, struct shown **list, int64_t *count)
{
    *count = min64(top, s->leaf_count);
    *list = xcalloc((size_t)*count, sizeof **list);
    for (int64_t i = 0; i < *count; i++)
        TRY(show(s, &s->leaves[i], i ? *list : NULL, &(*list)[i]));
    return 0;
}

static void shown_release(struct shown *list, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        search_plan_release(&list[i].p);
    free(list);
}

static const char *split_of(const struct layout_search *s, const struct leaf *leaf)
{
    return s->request.split ? s->request.split : leaf->automatic ? "auto" : "even";
}

static void print_row(const struct layout_search *s, int64_t i, const struct shown *list, FILE *f)
{
    const struct plan *p = &list[i].p;
    const struct axes *a = &p->axes;
    char memory[24], why[80];
    reason(&list[i], list, why);
    fprintf(f,
            "%4lld %4lld %3lld %4lld %4lld %4lld %3lld %5lld %5lld  %-11s %-5s %4d  %-9s  %-14s %9.4g %5.1f "
            "%9s  %-9s  %s\n",
            (ll)i + 1, (ll)a->tp, (ll)a->cp, (ll)a->etp, (ll)a->ep, (ll)a->pp, (ll)a->vpp, (ll)a->dp,
            (ll)p->batch.micro, plan_schedule(p)->name, split_of(s, &s->leaves[i]), p->training.zero,
            recompute_name[p->training.recompute], a->order, p->predict.step_s, 100 * p->predict.mfu,
            human_bytes(needed_bytes(&p->predict), memory), list[i].runs ? "runs-here" : "plan-only", why);
}

int search_print(const struct layout_search *s, int64_t top, FILE *f)
{
    struct shown *list;
    int64_t count;
    int r = show_all(s, top, &list, &count);
    if (r == 0) {
        fprintf(f, "%s on %d ranks of %s: %lld sequences of %lld tokens a step\n", s->base.model.name,
                s->base.world, s->base.machine.name, (ll)s->base.batch.global, (ll)s->base.batch.seq);
        fprintf(f, "%4s %4s %3s %4s %4s %4s %3s %5s %5s  %-11s %-5s %4s  %-9s  %-14s %9s %5s %9s  %-9s  %s\n",
                "", "tp", "cp", "etp", "ep", "pp", "vpp", "dp", "micro", "schedule", "split", "zero",
                "recompute", "order", "step_s", "mfu%", "memory", "", "loses by");
        for (int64_t i = 0; i < count; i++)
            print_row(s, i, list, f);
        fprintf(f, "%lld legal, %lld pruned, %lld costed, %lld simulated; %lld within %.0f%% of the best\n",
                (ll)s->legal, (ll)s->pruned, (ll)s->costed, (ll)s->simulated, (ll)s->leaf_count,
                100 * (SEARCH_MARGIN - 1));
    }
    shown_release(list, count);
    return r;
}

static json_t *row_json(const struct layout_search *s, int64_t i, const struct shown *list)
{
    const struct plan *p = &list[i].p;
    const struct axes *a = &p->axes;
    const struct predict *x = &p->predict;
    char why[80];
    reason(&list[i], list, why);
    return json_pack(
        "{sI sI sI sI sI sI sI sI sI sI ss so ss si ss sf sf sf sf sf sf sb ss}", "tp", (json_int_t)a->tp, "cp",
        (json_int_t)a->cp, "etp", (json_int_t)a->etp, "ep", (json_int_t)a->ep, "edp", (json_int_t)a->edp, "pp",
        (json_int_t)a->pp, "vpp", (json_int_t)a->vpp, "dp", (json_int_t)a->dp, "micro_batch",
        (json_int_t)p->batch.micro, "microbatches", (json_int_t)p->batch.microbatches, "schedule",
        plan_schedule(p)->name, "split", json_bytes(split_of(s, &s->leaves[i])), "order", a->order, "zero",
        p->training.zero, "recompute", recompute_name[p->training.recompute], "step_s", x->step_s,
        "tokens_per_s", x->tokens_per_s, "mfu", x->mfu, "memory_bytes", x->memory_bytes, "communicator_bytes",
        x->communicator_bytes, "bubble", x->bubble, "runs", (int)list[i].runs, "loses_by", why);
}

int search_json(const struct layout_search *s, int64_t top, FILE *f)
{
    struct shown *list;
    int64_t count;
    int r = show_all(s, top, &list, &count);
    json_t *rows = json_array();
    for (int64_t i = 0; r == 0 && i < count; i++)
        json_array_append_new(rows, row_json(s, i, list));
    json_t *all = json_pack("{so so si sI sI so sI sI sI sI sI}", "model", json_bytes(s->base.model.name),
                            "cluster", json_bytes(s->base.machine.name), "world", s->base.world, "global_batch",
                            (json_int_t)s->base.batch.global, "seq", (json_int_t)s->base.batch.seq, "layouts",
                            rows, "legal", (json_int_t)s->legal, "pruned", (json_int_t)s->pruned, "costed",
                            (json_int_t)s->costed, "simulated", (json_int_t)s->simulated, "within_margin",
                            (json_int_t)s->leaf_count);
    if (r == 0 && (json_dumpf(all, f, JSON_INDENT(1)) < 0 || fputc('\n', f) < 0))
        r = error_errno("cannot write");
    json_decref(all);
    shown_release(list, count);
    return r;
}
