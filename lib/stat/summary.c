/* SPDX-License-Identifier: MIT */
#include "stat/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "stat/sum.h"
#include "stat/summary_parts.h"

double figure_value(const struct summary *s, const struct figure *f)
{
    double v = s->value[f - figure_table];
    return isfinite(v) ? v : NAN;
}

bool figure_needs_loads(const struct figure *f)
{
    static const enum figure_id needs[] = {
        FIGURE_expert_load_std,     FIGURE_expert_load_max_over_mean, FIGURE_expert_load_min_over_mean,
        FIGURE_expert_load_entropy, FIGURE_expert_load_drift,         FIGURE_dead_experts,
        FIGURE_dropped_share};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (f == &figure_table[needs[i]])
            return true;
    return false;
}

/* ---- experts ---- */

static void experts(struct summary *s, const struct steplog *log, const struct loads *l, double all_tokens)
{
    struct layer_balance b;
    if (!l || !l->layers)
        return;
    loads_balance(&b, l);
    s->expert_load_std = b.cv;
    s->expert_load_max_over_mean = b.max_over_mean;
    s->expert_load_min_over_mean = b.min_over_mean;
    s->expert_load_entropy = b.entropy;
    s->expert_load_drift = b.drift;
    s->dead_experts = b.dead;
    if (log->top_k > 0 && all_tokens > 0)
        s->dropped_share = s->dropped / (all_tokens * log->top_k * l->layers);
}

/* ---- what is summed, or the largest, over the whole log ---- */

/* Seconds of all steps, and their tokens. */
static void totals(struct summary *s, struct steplog *log, double *all_s, double *all_tokens)
{
    struct sum std = {0}, most = {0}, time = {0}, tokens = {0};
    s->dropped = s->overflow = s->nan_steps = 0;
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        double rate;
        s->dropped += (double)r->dropped;
        s->overflow += (double)r->overflow;
        s->nan_steps += r->diverged;
        s->peak_bytes = fmax(s->peak_bytes, r->peak_bytes); /* fmax passes over a NaN */
        sum_add(&tokens, (double)r->tokens);
        if (step_rate(r, &rate))
            sum_add(&time, r->time_s);
        if (isfinite(r->load_std))
            sum_add(&std, r->load_std);
        if (isfinite(r->load_max_over_mean))
            sum_add(&most, r->load_max_over_mean);
    }
    if (strcmp(log->kind, "moekit") != 0)
        s->dropped = s->overflow = NAN; /* no other trainer's log tells */
    s->step_load_std = sum_mean(&std);
    s->step_load_max_over_mean = sum_mean(&most);
    *all_s = sum_value(&time);
    *all_tokens = sum_value(&tokens);
}

static void events(struct summary *s, struct steplog *log, double all_s)
{
    struct sum saves = {0}, evals = {0};
    for (size_t i = 0; i < log->saves; i++) {
        double t = steplog_save(log, i)->time_s;
        if (!(t >= 0 && t <= MAX_STEP_S))
            continue;
        sum_add(&saves, t);
        s->save_s_max = fmax(s->save_s_max, t);
    }
    for (size_t i = 0; i < log->evals; i++) {
        double t = steplog_eval(log, i)->time_s;
        if (t >= 0 && t <= MAX_STEP_S)
            sum_add(&evals, t);
    }
    s->evals = (double)log->evals;
    s->saves = (double)log->saves;
    s->save_s = saves.count > 0 || !log->saves ? sum_value(&saves) : NAN;
    s->faults = (double)log->faults;
    s->restarts = log->starts > 1 ? (double)log->starts - 1 : 0;
    s->abandoned_steps = (double)log->abandoned;
    s->abandoned_s = log->abandoned_s;
    s->skipped_lines = (double)log->skipped_lines;
    s->save_share = s->save_s / (all_s + s->save_s);
    s->goodput = all_s / (all_s + log->abandoned_s + s->save_s + sum_value(&evals));
    if (log->evals)
        s->eval_loss = steplog_eval(log, log->evals - 1)->loss;
}

static void ends(struct summary *s, struct steplog *log)
{
    const struct step_record *r = steplog_step(log, 0);
    s->steps = (double)log->count;
    s->first_step = (double)r->step;
    s->loss_first = r->loss;
    r = steplog_step(log, log->count - 1);
    s->last_step = (double)r->step;
    s->loss_last = r->loss;
    s->grad_norm = r->grad_norm;
    for (int i = 0; i < ROUTER_LOSSES; i++)
        s->value[router_loss_figure[i]] = r->router_loss[i];
}

int64_t summary_skipped(const struct summary *s, int64_t skip)
{
    if (skip != SKIP_WARMUP)
        return skip;
    return s->warmup_steps > 0 ? (int64_t)s->warmup_steps : 0;
}

int summary_make(struct summary *s, struct steplog *log, const struct loads *loads, int64_t skip,
                 const struct known_figures *known)
{
    static const struct known_figures nothing = {NAN, NAN, NAN};
    double all_s, all_tokens;
    for (int i = 0; i < FIGURES; i++)
        s->value[i] = NAN;
    if (!log->count)
        return error(STATUS_USAGE, "the log has no step (lines that are no records: %zu)", log->skipped_lines);
    if (skip != SKIP_WARMUP && (skip < 0 || (uint64_t)skip >= log->count))
        return error(STATUS_USAGE, "the log has %zu steps: none is left after the first %lld", log->count,
                     (long long)skip);
    known = known ? known : &nothing;
    ends(s, log);
    totals(s, log, &all_s, &all_tokens);
    events(s, log, all_s);
    experts(s, log, loads, all_tokens);
    part_warmup(s, log);
    size_t from = (size_t)summary_skipped(s, skip);
    part_speed(s, log, from, known);
    part_phases(s, log, from);
    part_losses(s, log);
    double device = log->segment_count ? log->segments[log->segment_count - 1].device_bytes : NAN;
    s->memory_used = s->peak_bytes / (device > 0 ? device : known->device_bytes);
    return 0;
}
