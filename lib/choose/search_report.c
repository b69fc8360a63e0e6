/* SPDX-License-Identifier: MIT */
#include "choose/search_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "check/limits.h"
#include "choose/shares.h"
#include "cost/communicators.h"
#include "plan/schedule.h"

struct shown {
    struct plan p;
    struct step_shares share;
    bool runs;
    int why;      /* index of the share that costs it most against the best; -1: none, or it is the best */
    double why_s; /* by so much */
};

static int show(const struct layout_search *s, const struct leaf *leaf, const struct shown *best,
                struct shown *x)
{
    TRY(search_plan(s, leaf, NULL, &x->p));
    TRY(shares_of(&x->p, &x->share));
    x->runs = plan_within_limits(&x->p) == 0;
    error_clear();
    x->why = best ? share_lost(&best->share, &x->share, 1e-6 * best->p.predict.step_s) : -1;
    x->why_s = x->why < 0 ? 0 : x->share.s[x->why] - best->share.s[x->why];
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

const char *leaf_split(const struct layout_search *s, const struct leaf *leaf)
{
    return s->request.split ? s->request.split : leaf->automatic ? "auto" : "even";
}

void layout_print_head(const char *label, FILE *f)
{
    fprintf(f, "%4s %4s %3s %4s %4s %4s %3s %5s %5s  %-11s %-5s %4s  %-9s  %-14s %9s %5s %9s  %-9s  %s\n",
            label, "tp", "cp", "etp", "ep", "pp", "vpp", "dp", "micro", "schedule", "split", "zero",
            "recompute", "order", "step_s", "mfu%", "memory", "", "loses by");
}

void layout_print(const char *label, const struct plan *p, const char *split, bool runs, const char *why,
                  FILE *f)
{
    typedef long long ll;
    const struct axes *a = &p->axes;
    char memory[24];
    fprintf(f,
            "%4s %4lld %3lld %4lld %4lld %4lld %3lld %5lld %5lld  %-11s %-5s %4d  %-9s  %-14s %9.4g %5.1f "
            "%9s  %-9s  %s\n",
            label, (ll)a->tp, (ll)a->cp, (ll)a->etp, (ll)a->ep, (ll)a->pp, (ll)a->vpp, (ll)a->dp,
            (ll)p->batch.micro, plan_schedule(p)->name, split, p->training.zero,
            recompute_name[p->training.recompute], a->order, p->predict.step_s, 100 * p->predict.mfu,
            human_bytes(needed_bytes(&p->predict), memory), runs ? "runs-here" : "plan-only", why);
}

void job_print(const struct plan *p, FILE *f)
{
    fprintf(f, "%s on %d ranks of %s: %lld sequences of %lld tokens a step\n", p->model.name, p->world,
            p->machine.name, (long long)p->batch.global, (long long)p->batch.seq);
}

static void print_row(const struct layout_search *s, int64_t i, const struct shown *list, FILE *f)
{
    char why[80], label[24];
    reason(&list[i], list, why);
    snprintf(label, sizeof label, "%lld", (long long)i + 1);
    layout_print(label, &list[i].p, leaf_split(s, &s->leaves[i]), list[i].runs, why, f);
}

int search_print(const struct layout_search *s, int64_t top, FILE *f)
{
    struct shown *list;
    int64_t count;
    int r = show_all(s, top, &list, &count);
    if (r == 0) {
        job_print(&s->base, f);
        layout_print_head("", f);
        for (int64_t i = 0; i < count; i++)
            print_row(s, i, list, f);
        fprintf(f, "%lld legal, %lld pruned, %lld costed, %lld simulated; %lld within %.0f%% of the best\n",
                (long long)s->legal, (long long)s->pruned, (long long)s->costed, (long long)s->simulated,
                (long long)s->leaf_count, 100 * (SEARCH_MARGIN - 1));
    }
    shown_release(list, count);
    return r;
}

json_t *layout_json(const struct plan *p, const char *split, bool runs)
{
    const struct axes *a = &p->axes;
    const struct predict *x = &p->predict;
    return json_pack("{sI sI sI sI sI sI sI sI sI sI ss so ss si ss sf sf sf sf sf sf sb}", "tp",
                     (json_int_t)a->tp, "cp", (json_int_t)a->cp, "etp", (json_int_t)a->etp, "ep",
                     (json_int_t)a->ep, "edp", (json_int_t)a->edp, "pp", (json_int_t)a->pp, "vpp",
                     (json_int_t)a->vpp, "dp", (json_int_t)a->dp, "micro_batch", (json_int_t)p->batch.micro,
                     "microbatches", (json_int_t)p->batch.microbatches, "schedule", plan_schedule(p)->name,
                     "split", json_bytes(split), "order", a->order, "zero", p->training.zero, "recompute",
                     recompute_name[p->training.recompute], "step_s", x->step_s, "tokens_per_s",
                     x->tokens_per_s, "mfu", x->mfu, "memory_bytes", x->memory_bytes, "communicator_bytes",
                     x->communicator_bytes, "bubble", x->bubble, "runs", (int)runs);
}

static json_t *row_json(const struct layout_search *s, int64_t i, const struct shown *list)
{
    char why[80];
    reason(&list[i], list, why);
    json_t *row = layout_json(&list[i].p, leaf_split(s, &s->leaves[i]), list[i].runs);
    json_object_set_new(row, "loses_by", json_string(why));
    return row;
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
