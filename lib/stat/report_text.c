/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/notice.h"
#include "base/num.h"
#include "stat/report.h"
#include "stat/texts.h"

static void header(FILE *f, const struct report *r, struct texts *w)
{
    const struct steplog *log = r->log;
    bool foreign = strcmp(log->kind, "moekit") != 0;
    fprintf(f, "%s", *log->model ? log->model : foreign ? "(no name)" : "(no start record)");
    if (foreign)
        fprintf(f, ", %s", log->kind);
    if (log->world > 0)
        fprintf(f, ", %d rank%s", log->world, plural(log->world));
    if (*log->backend)
        fprintf(f, ", %s", log->backend);
    if (*log->precision)
        fprintf(f, ", %s", log->precision);
    if (log->parameters > 0)
        fprintf(f, ", %s parameters", text_scaled(w, (double)log->parameters, LETTERS_COUNT));
    if (log->active_parameters > 0)
        fprintf(f, " (%s active)", text_scaled(w, (double)log->active_parameters, LETTERS_COUNT));
    fprintf(f, "\n%-12s%.0f to %.0f (%.0f)", "steps", r->s.first_step, r->s.last_step, r->s.steps);
    if (r->s.steps_counted != r->s.steps)
        fprintf(f, ", %.0f counted for speed", r->s.steps_counted);
    if (r->warmup && r->skip)
        fprintf(f, " (%" PRId64 " at the beginning took over 1.5 times the median)", r->skip);
    if (log->abandoned)
        fprintf(f, "\n%-12s%zu: steps that were gone back on, or repeated; they count nowhere; %s s lost",
                "abandoned", log->abandoned, text_number(w, log->abandoned_s));
    fprintf(f, "\n\n");
}

static void figures(FILE *f, const struct report *r, struct texts *w)
{
    const struct summary *s = &r->s;
    fprintf(f, "%-12s%s -> %s", "loss", text_as(w, "%.4f", s->loss_first), text_as(w, "%.4f", s->loss_last));
    fprintf(f, "   end %s, %s a step", text_as(w, "%.4f", s->loss_end), text_as(w, "%+.3g", s->loss_slope));
    if (r->log->evals)
        fprintf(f, "   eval %s (step %.0f)", text_as(w, "%.4f", s->eval_loss),
                steplog_eval(r->log, r->log->evals - 1)->step);
    fprintf(f, "\n%-12snorm %s, %s spikes   %.0f steps not finite\n", "gradient", text_number(w, s->grad_norm),
            text_count(w, s->grad_norm_spikes), s->nan_steps);
    fprintf(f, "%-12s%s   p50 %s  p95 %s  p99 %s   %s sequences/s\n", "tokens/s",
            text_number(w, s->tokens_per_s), text_number(w, s->tokens_per_s_p50),
            text_number(w, s->tokens_per_s_p95), text_number(w, s->tokens_per_s_p99),
            text_number(w, s->sequences_per_s));
    fprintf(f, "%-12s%s s   p50 %s  p95 %s  p99 %s  std %s   microbatch %s s\n", "step",
            text_number(w, s->step_s), text_number(w, s->step_s_p50), text_number(w, s->step_s_p95),
            text_number(w, s->step_s_p99), text_number(w, s->step_s_std), text_number(w, s->microbatch_s));
    fprintf(f, "%-12s%s", "MFU", text_percent(w, s->mfu, 2));
    if (s->flops_per_token > 0)
        fprintf(f, "   %sFLOP a token", text_scaled(w, s->flops_per_token, LETTERS_SI));
    if (r->log->peak_flops > 0)
        fprintf(f, ", peak %sFLOP/s a rank", text_scaled(w, r->log->peak_flops, LETTERS_SI));
    if (s->rank_flops_per_s > 0)
        fprintf(f, ", %sFLOP/s a rank done", text_scaled(w, s->rank_flops_per_s, LETTERS_SI));
    if (s->flops_per_token > 0)
        fprintf(f, "; Megatron's convention");
    fprintf(f, "; HFU %s\n\n", text_percent(w, s->hfu, 2));
}

static void phases(FILE *f, const struct report *r, struct texts *w)
{
    const struct summary *s = &r->s;
    struct straggler slow[PHASES];
    struct phase_bounds b[PHASES];
    summary_stragglers(slow, r->log, r->skip);
    summary_bounds(b, s, r->log, r->skip);
    fprintf(f, "%-12s%15s%13s%15s%14s\n", "phase", "s a step", "share", "slowest rank", "over mean");
    for (int p = 0; p < PHASES; p++) {
        double share = s->value[FIGURE_forward_share + p], least = b[p].least_share, most = b[p].most_share;
        if (isfinite(most))
            fprintf(f, "%-12s%15s%13s", phase_name[p],
                    text_between(w, "%.4f", least * s->step_s, most * s->step_s, ""),
                    text_between(w, "%.1f", 100 * least, 100 * most, " %"));
        else
            fprintf(f, "%-12s%15s%13s", phase_name[p], text_as(w, "%.4f", share * s->step_s),
                    text_percent(w, share, 1));
        if (slow[p].rank >= 0)
            fprintf(f, "%5d in %4.0f %%%14s", slow[p].rank, 100 * slow[p].times / slow[p].steps,
                    text_as(w, "+%.1f %%", 100 * slow[p].excess));
        fputc('\n', f);
    }
    fprintf(f, "%-12s%28s   the schedule's formula %s\n", "bubble", text_percent(w, s->bubble, 1),
            text_percent(w, s->bubble_formula, 1));
    fprintf(f, "%-12s%28s   of the communication %s was hidden\n\n", "exposed",
            text_percent(w, s->exposed_share, 1), text_percent(w, s->overlap, 1));
}

/* Where the run was started more than once: a line for each of the last starts. */
static void segments(FILE *f, const struct report *r, struct texts *w)
{
    enum { MOST = 8 };
    const struct steplog *log = r->log;
    if (log->starts < 2)
        return;
    int first = log->segment_count > MOST ? log->segment_count - MOST : 0;
    fprintf(f, "%-12s%10s%8s%9s%8s%11s%9s   %s\n", "start", "from step", "ranks", "experts", "steps",
            "tokens/s", "MFU", "loss");
    if (first)
        fprintf(f, "(%d before)\n", first);
    struct segment_figures *speed = summary_segments(r->log, r->skip);
    for (int i = first; i < log->segment_count; i++) {
        const struct log_segment *g = &log->segments[i];
        char name[12];
        if (*g->run)
            snprintf(name, sizeof name, "%.11s", g->run);
        else
            snprintf(name, sizeof name, "%d", i + 1);
        fprintf(f, "%-12s%10s%8s%9s%8zu%11s%9s   ", name, text_count(w, g->from < 0 ? NAN : (double)g->from),
                text_count(w, g->world > 0 ? g->world : NAN), text_count(w, g->experts > 0 ? g->experts : NAN),
                g->count, text_number(w, speed[i].tokens_per_s), text_percent(w, speed[i].mfu, 2));
        if (g->up_to == INT64_MIN)
            fprintf(f, "abandoned\n");
        else
            fprintf(f, "%s -> %s\n", text_as(w, "%.4f", speed[i].first_loss),
                    text_as(w, "%.4f", speed[i].last_loss));
    }
    free(speed);
    fputc('\n', f);
}

static void experts(FILE *f, const struct report *r, struct texts *w)
{
    const struct summary *s = &r->s;
    fprintf(f, "%-12smax/mean %s  std %s", "expert load", text_number(w, s->expert_load_max_over_mean),
            text_number(w, s->expert_load_std));
    if (r->loads && r->loads->layers)
        fprintf(f, "  entropy %s  drift %s  dead %.0f   (%d layers of %d)",
                text_as(w, "%.4f", s->expert_load_entropy), text_percent(w, s->expert_load_drift, 1),
                s->dead_experts, r->loads->layers, r->loads->experts);
    fprintf(f, "\n%-12smax/mean %s  std %s\n", "  a step", text_number(w, s->step_load_max_over_mean),
            text_number(w, s->step_load_std));
    fprintf(f, "%-12s%s rows", "dropped", text_count(w, s->dropped));
    if (isfinite(s->dropped_share))
        fprintf(f, ", %s of all", text_as(w, "%.3g %%", 100 * s->dropped_share));
    fprintf(f, "\n%-12s%s layers took more than one pass\n", "overflow", text_count(w, s->overflow));
}

static void memory(FILE *f, const struct report *r, struct texts *w)
{
    enum { MOST = 4 };
    struct stage_memory m;
    report_stages(r->log, &m);
    fprintf(f, "%-12s%s", "memory", text_bytes(w, r->s.peak_bytes));
    if (isfinite(r->s.memory_used))
        fprintf(f, ", %s of the device's", text_percent(w, r->s.memory_used, 1));
    for (int k = 0; m.count > 1 && k < m.count && k < MOST; k++)
        fprintf(f, "%s stage %d %s (rank %d)", k ? "," : ":", k, text_bytes(w, m.bytes[k]), m.rank[k]);
    if (m.count > MOST)
        fprintf(f, ", ...");
    fputc('\n', f);
}

static void events(FILE *f, const struct report *r, struct texts *w)
{
    const struct steplog *log = r->log;
    fprintf(f, "%-12s%zu evals, %zu saves, %zu faults", "events", log->evals, log->saves, log->faults);
    if (r->s.restarts > 0)
        fprintf(f, ", %.0f restart%s", r->s.restarts, plural(r->s.restarts));
    if (log->skipped_lines)
        fprintf(f, ", %zu line%s that hold%s no record", log->skipped_lines,
                plural((int64_t)log->skipped_lines), log->skipped_lines == 1 ? "s" : "");
    if (log->saves)
        fprintf(f, "\n%-12s%s s, the slowest %s: %s of the time", "saves took", text_number(w, r->s.save_s),
                text_number(w, r->s.save_s_max), text_percent(w, r->s.save_share, 1));
    fprintf(f, "\n%-12s%s\n", "ended",
            *log->end_reason ? log->end_reason : "no word of an end: it still runs, or was killed");
}

void report_text(FILE *f, const struct report *r)
{
    struct texts w = {0};
    header(f, r, &w);
    figures(f, r, &w);
    phases(f, r, &w);
    segments(f, r, &w);
    experts(f, r, &w);
    memory(f, r, &w);
    events(f, r, &w);
}

int report_experts(FILE *f, const struct loads *l)
{
    struct texts w = {0};
    if (report_no_loads(l) < 0)
        return -1;
    fprintf(f, "%-6s%12s%12s%8s%9s%9s%9s%8s%6s%8s%8s\n", "layer", "mean rows", "std rows", "cv", "max/mean",
            "min/mean", "entropy", "drift", "dead", "hottest", "coldest");
    for (int i = 0; i < l->layers; i++) {
        struct layer_balance b;
        loads_layer(&b, l, i);
        fprintf(f, "%-6d%12s%12s%8s%9s%9s%9s%8s%6d%8d%8d\n", i, text_number(&w, b.mean), text_number(&w, b.std),
                text_as(&w, "%.4f", b.cv), text_as(&w, "%.3f", b.max_over_mean),
                text_as(&w, "%.3f", b.min_over_mean), text_as(&w, "%.4f", b.entropy),
                text_percent(&w, b.drift, 1), b.dead, b.hottest, b.coldest);
    }
    return 0;
}

void report_notices(const struct report *r)
{
    const struct steplog *log = r->log;
    if (log->skipped_lines)
        notice("skipped: %zu line%s with something that is no record", log->skipped_lines,
               plural(log->skipped_lines));
    if (log->cut)
        notice("the last line has no end: its writer was killed, or is at it");
    if (r->s.untimed_steps > 0)
        notice("%.0f steps have no tokens or no time (or one over %.0e s, as of a clock that was set): they do "
               "not count for speed",
               r->s.untimed_steps, MAX_STEP_S);
    if (r->loads && r->loads->bad)
        notice("%zu records have an expert_load that is no matrix of numbers: it was passed over",
               r->loads->bad);
    if (r->loads && r->loads->other)
        notice("%zu records have loads of other experts than the last: they were passed over", r->loads->other);
}
