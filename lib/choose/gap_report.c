/* SPDX-License-Identifier: MIT */
#include "choose/gap_report.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "choose/search_report.h"
#include "plan/schedule.h"

/* A choice as the layout has it: "4", "interleaved". */
static const char *choice_text(const struct layout_choice *c, enum choice choice, char text[static 32])
{
    static const char *const split[] = {"even", "auto", "the plan's"};
    const struct axes *a = &c->axes;
    const long long number[] = {a->tp, a->cp, a->etp, a->ep, a->pp, a->vpp, c->micro};
    switch (choice) {
    case CHOICE_SCHEDULE:
        return schedules[c->schedule].name;
    case CHOICE_SPLIT:
        return split[c->split];
    case CHOICE_RECOMPUTE:
        return recompute_name[c->recompute];
    case CHOICE_ORDER:
        return a->order;
    default:
        snprintf(text, 32, "%lld", choice == CHOICE_ZERO ? c->zero : number[choice]);
        return text;
    }
}

static void put_layouts(const struct gap *g, FILE *f)
{
    const char *which = g->only_runnable ? "the best that moe-train runs" : "the best";
    char why[80] = "as fast";
    int lost = share_lost(&g->best_share, &g->plan_share, 1e-6 * g->best.predict.step_s);
    if (lost >= 0)
        snprintf(why, sizeof why, "%s +%.3g s", share_name(lost),
                 g->plan_share.s[lost] - g->best_share.s[lost]);
    job_print(&g->plan, f);
    layout_print_head("", f);
    layout_print("plan", &g->plan, "its", g->runs, why, f);
    layout_print("best", &g->best, leaf_split(&g->search, g->search.leaves), g->best_runs, which, f);
}

static void put_losses(const struct gap *g, FILE *f)
{
    double step = g->plan.predict.step_s, best = g->best.predict.step_s;
    fprintf(f, "\nThe plan's step takes %.3g times as long as the best's, %+.4g s:\n", step / best,
            step - best);
    for (int i = 0; i < SHARES; i++) {
        double more = g->plan_share.s[i] - g->best_share.s[i];
        if (fabs(more) > 1e-3 * best)
            fprintf(f, "  %-32s %+10.4g s\n", share_name(i), more);
    }
}

static void put_alone(const struct gap *g, FILE *f)
{
    double step = g->plan.predict.step_s;
    char from[32];
    fputs("\nOne choice changed to the best of its other values, all others held:\n", f);
    for (int i = 0; i < CHOICES; i++) {
        const struct layout_change *x = &g->alone[i];
        fprintf(f, "  %-11s %-14s ", choice_name[i], choice_text(&g->at, (enum choice)i, from));
        if (isnan(x->step_s))
            fputs("no other is legal, fits and is asked for\n", f);
        else
            fprintf(f, "to %-28s %9.4g s %+6.1f%%\n", x->to, x->step_s, 100 * (x->step_s / step - 1));
    }
}

static void put_path(const struct gap *g, FILE *f)
{
    double step = g->plan.predict.step_s, best = g->best.predict.step_s;
    fprintf(f, "\nOne after the other, from %.4g s, each time the one that gains most:\n", step);
    for (int i = 0; i < g->path_count; i++) {
        const struct layout_change *x = &g->path[i];
        fprintf(f, "  %-11s to %-28s %9.4g s %+6.1f%%\n", choice_name[x->choice], x->to, x->step_s,
                100 * (x->step_s / step - 1));
        step = x->step_s;
    }
    if (best < step * (1 - 1e-3))
        fprintf(f, "  %-43s %9.4g s %+6.1f%%\n", "several at once, to the best", best, 100 * (best / step - 1));
    else if (g->path_count)
        fputs("  which is as fast as the best\n", f);
    else
        fputs("  none: it is as fast as the best\n", f);
}

int gap_print(const struct gap *g, FILE *f)
{
    put_layouts(g, f);
    put_losses(g, f);
    put_alone(g, f);
    put_path(g, f);
    return ferror(f) ? error_errno("cannot write") : 0;
}

static json_t *change_json(const struct layout_change *x, double from)
{
    if (isnan(x->step_s))
        return json_pack("{ss so so so}", "choice", choice_name[x->choice], "to", json_null(), "step_s",
                         json_null(), "gain", json_null());
    return json_pack("{ss so sf sf sf}", "choice", choice_name[x->choice], "to", json_bytes(x->to), "step_s",
                     x->step_s, "memory_bytes", x->memory_bytes, "gain", 1 - x->step_s / from);
}

int gap_json(const struct gap *g, FILE *f)
{
    json_t *loses = json_array(), *alone = json_array(), *path = json_array();
    double step = g->plan.predict.step_s;
    for (int i = 0; i < SHARES; i++)
        json_array_append_new(loses, json_pack("{ss sf}", "part", share_name(i), "seconds",
                                               g->plan_share.s[i] - g->best_share.s[i]));
    for (int i = 0; i < CHOICES; i++)
        json_array_append_new(alone, change_json(&g->alone[i], step));
    for (int i = 0; i < g->path_count; i++)
        json_array_append_new(path, change_json(&g->path[i], i ? g->path[i - 1].step_s : step));
    json_t *all =
        json_pack("{so so sf so so so}", "plan", layout_json(&g->plan, "its", g->runs), "best",
                  layout_json(&g->best, leaf_split(&g->search, g->search.leaves), g->best_runs), "slower",
                  step / g->best.predict.step_s, "loses", loses, "alone", alone, "path", path);
    int r = json_dumpf(all, f, JSON_INDENT(1)) < 0 || fputc('\n', f) < 0 ? error_errno("cannot write") : 0;
    json_decref(all);
    return r;
}
