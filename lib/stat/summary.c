/* SPDX-License-Identifier: MIT */
#include "stat/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define AT(field)    offsetof(struct summary, field)
#define SHARE(phase) (AT(phase_share) + (phase) * sizeof(double))

#define LOSS(id, key, option, config, help, meaning)                                                           \
    {key, meaning " of the last step", UNIT_NUMBER, AT(router_loss[id])},

const struct figure summary_figure[] = {
    {"steps", "steps in the log", UNIT_COUNT, AT(steps)},
    {"first_step", "number of the first step", UNIT_COUNT, AT(first_step)},
    {"last_step", "number of the last step", UNIT_COUNT, AT(last_step)},
    {"steps_counted", "steps that count for throughput", UNIT_COUNT, AT(steps_counted)},
    {"tokens", "tokens of the steps counted", UNIT_COUNT, AT(tokens)},
    {"time_s", "seconds of the steps counted", UNIT_SECONDS, AT(time_s)},
    {"tokens_per_s", "tokens over seconds", UNIT_RATE, AT(tokens_per_s)},
    {"tokens_per_s_p50", "median of the steps' rates", UNIT_RATE, AT(tokens_per_s_p50)},
    {"tokens_per_s_p95", "95th percentile of the steps' rates", UNIT_RATE, AT(tokens_per_s_p95)},
    {"tokens_per_s_p99", "99th percentile of the steps' rates", UNIT_RATE, AT(tokens_per_s_p99)},
    {"step_s", "mean time of a step", UNIT_SECONDS, AT(step_s)},
    {"step_s_p50", "median time of a step", UNIT_SECONDS, AT(step_s_p50)},
    {"step_s_p95", "95th percentile of the time of a step", UNIT_SECONDS, AT(step_s_p95)},
    {"mfu", "model FLOP/s over peak FLOP/s", UNIT_RATIO, AT(mfu)},
    {"hfu", "as mfu, with recomputation", UNIT_RATIO, AT(hfu)},
    {"loss_first", "loss of the first step", UNIT_NUMBER, AT(loss_first)},
    {"loss_last", "loss of the last step", UNIT_NUMBER, AT(loss_last)},
    {"eval_loss", "last loss on evaluation data", UNIT_NUMBER, AT(eval_loss)},
    /* clang-format off */
    ROUTER_LOSS_ROWS(LOSS)
    /* clang-format on */
    {"grad_norm", "gradient norm of the last step", UNIT_NUMBER, AT(grad_norm)},
    {"forward_share", "share of step time in forward compute", UNIT_RATIO, SHARE(PHASE_FORWARD)},
    {"backward_share", "in backward compute", UNIT_RATIO, SHARE(PHASE_BACKWARD)},
    {"dispatch_share", "in sending tokens to experts", UNIT_RATIO, SHARE(PHASE_DISPATCH)},
    {"combine_share", "in bringing them back", UNIT_RATIO, SHARE(PHASE_COMBINE)},
    {"tp_share", "in tensor-parallel communication", UNIT_RATIO, SHARE(PHASE_TP)},
    {"pp_share", "in communication between pipeline stages", UNIT_RATIO, SHARE(PHASE_PP)},
    {"dp_share", "in reducing gradients", UNIT_RATIO, SHARE(PHASE_DP)},
    {"optimizer_share", "in the optimizer", UNIT_RATIO, SHARE(PHASE_OPTIMIZER)},
    {"idle_share", "in waiting", UNIT_RATIO, SHARE(PHASE_IDLE)},
    {"expert_load_std", "spread of the experts' loads over the log", UNIT_NUMBER, AT(expert_load_std)},
    {"expert_load_max_over_mean", "largest of the experts' loads over the log", UNIT_NUMBER,
     AT(expert_load_max_over_mean)},
    {"step_load_std", "spread of the experts' loads in a step", UNIT_NUMBER, AT(step_load_std)},
    {"step_load_max_over_mean", "largest of the experts' loads in a step", UNIT_NUMBER,
     AT(step_load_max_over_mean)},
    {"dropped", "routed rows dropped", UNIT_COUNT, AT(dropped)},
    {"overflow", "layers that needed more than one pass", UNIT_COUNT, AT(overflow)},
    {"peak_bytes", "most memory used on a rank", UNIT_BYTES, AT(peak_bytes)},
    {"evals", "evaluations", UNIT_COUNT, AT(evals)},
    {"saves", "checkpoints written", UNIT_COUNT, AT(saves)},
    {"faults", "faults", UNIT_COUNT, AT(faults)},
    {"restarts", "starts of the run after the first", UNIT_COUNT, AT(restarts)},
    {"abandoned_steps", "records of steps that count in no figure", UNIT_COUNT, AT(abandoned_steps)},
    {"skipped_lines", "lines of the log that are not records", UNIT_COUNT, AT(skipped_lines)},
};
const int summary_figures = sizeof summary_figure / sizeof *summary_figure;

double figure_value(const struct summary *s, const struct figure *f)
{
    double v;
    memcpy(&v, (const char *)s + f->at, sizeof v);
    return isfinite(v) ? v : NAN;
}

const struct figure *figure_find(const char *name, size_t length)
{
    for (int i = 0; i < summary_figures; i++)
        if (strlen(summary_figure[i].name) == length && strncmp(summary_figure[i].name, name, length) == 0)
            return &summary_figure[i];
    return NULL;
}

bool step_rate(const struct step_record *r, double *rate)
{
    if (!(r->time_s > 0) || r->tokens <= 0)
        return false;
    *rate = (double)r->tokens / r->time_s;
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of sorted values, interpolated linearly between neighbours. */
static double percentile(const double *v, size_t n, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? v[i] + (at - (double)i) * (v[i + 1] - v[i]) : v[n - 1];
}

/* What all ranks of the step could have computed in its time. NaN where the log does not tell. */
static double possible_flops(const struct steplog *log, const struct step_record *r)
{
    const struct log_segment *g = &log->segments[r->segment];
    return g->peak_flops > 0 && g->world > 0 ? r->time_s * g->peak_flops * g->world : NAN;
}

static double model_flops(const struct steplog *log, const struct step_record *r)
{
    double each = log->segments[r->segment].flops_per_token;
    return each > 0 ? (double)r->tokens * each : NAN;
}

void summary_segment(struct segment_speed *s, const struct steplog *log, int64_t skip, int segment)
{
    double tokens = 0, time_s = 0, done = 0, possible = 0, rate;
    *s = (struct segment_speed){0};
    for (size_t i = (size_t)skip; i < log->count; i++) {
        const struct step_record *r = &log->steps[i];
        if (r->segment != segment || !step_rate(r, &rate))
            continue;
        s->steps++;
        tokens += (double)r->tokens;
        time_s += r->time_s;
        done += model_flops(log, r);
        possible += possible_flops(log, r);
    }
    s->tokens_per_s = s->steps > 0 ? tokens / time_s : NAN;
    s->mfu = s->steps > 0 ? done / possible : NAN;
}

static void throughput(struct summary *s, const struct steplog *log, size_t from)
{
    size_t n = 0, room = log->count - from;
    double *rate = xmalloc(room * sizeof *rate), *time = xmalloc(room * sizeof *time);
    double done = 0, possible = 0; /* floating-point operations */
    s->tokens = s->time_s = 0;
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = &log->steps[i];
        if (!step_rate(r, &rate[n]))
            continue;
        time[n++] = r->time_s;
        s->tokens += (double)r->tokens;
        s->time_s += r->time_s;
        done += model_flops(log, r);
        possible += possible_flops(log, r);
    }
    s->steps_counted = (double)n;
    if (n) {
        qsort(rate, n, sizeof *rate, ascending);
        qsort(time, n, sizeof *time, ascending);
        s->tokens_per_s = s->tokens / s->time_s;
        s->tokens_per_s_p50 = percentile(rate, n, 0.50);
        s->tokens_per_s_p95 = percentile(rate, n, 0.95);
        s->tokens_per_s_p99 = percentile(rate, n, 0.99);
        s->step_s = s->time_s / (double)n;
        s->step_s_p50 = percentile(time, n, 0.50);
        s->step_s_p95 = percentile(time, n, 0.95);
        s->mfu = done / possible;
    }
    free(rate);
    free(time);
}

/* Shares of the time of those steps that have phases at all. */
static void phases(struct summary *s, const struct steplog *log, size_t from)
{
    double time = 0, sum[PHASES] = {0};
    bool there[PHASES] = {false};
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = &log->steps[i];
        bool any = false;
        for (int p = 0; p < PHASES && r->time_s > 0; p++)
            if (!isnan(r->phase_s[p])) {
                sum[p] += r->phase_s[p];
                there[p] = any = true;
            }
        if (any)
            time += r->time_s;
    }
    for (int p = 0; p < PHASES; p++)
        if (there[p])
            s->phase_share[p] = sum[p] / time;
}

/* Over layers, the means of the experts' largest load and of their standard deviation, in units of the layer's
 * mean. */
static void loads(struct summary *s, const struct steplog *log)
{
    int layers = 0;
    double std = 0, most = 0;
    for (int l = 0; log->loads && l < log->moe_layers; l++) {
        const double *load = log->loads + (size_t)l * (size_t)log->experts;
        double sum = 0, square = 0, max = 0;
        for (int e = 0; e < log->experts; e++) {
            sum += load[e];
            max = fmax(max, load[e]);
        }
        double mean = sum / log->experts;
        if (!(mean > 0))
            continue;
        for (int e = 0; e < log->experts; e++)
            square += (load[e] / mean - 1) * (load[e] / mean - 1);
        std += sqrt(square / log->experts);
        most += max / mean;
        layers++;
    }
    if (layers) {
        s->expert_load_std = std / layers;
        s->expert_load_max_over_mean = most / layers;
    }
}

/* What is summed, or the last or the largest, over the whole log. */
static void totals(struct summary *s, const struct steplog *log)
{
    double std = 0, most = 0;
    size_t stds = 0, mosts = 0;
    s->dropped = s->overflow = 0;
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = &log->steps[i];
        s->dropped += (double)r->dropped;
        s->overflow += (double)r->overflow;
        s->peak_bytes = fmax(s->peak_bytes, r->peak_bytes); /* fmax passes over a NaN */
        if (!isnan(r->load_std)) {
            std += r->load_std;
            stds++;
        }
        if (!isnan(r->load_max_over_mean)) {
            most += r->load_max_over_mean;
            mosts++;
        }
    }
    if (stds)
        s->step_load_std = std / (double)stds;
    if (mosts)
        s->step_load_max_over_mean = most / (double)mosts;
}

int summary_make(struct summary *s, const struct steplog *log, int64_t skip)
{
    if (!log->count)
        return error(STATUS_USAGE, "the log has no step (%zu lines are not records)", log->skipped_lines);
    if (skip < 0 || (uint64_t)skip >= log->count)
        return error(STATUS_USAGE, "the log has %zu steps: none is left after the first %lld", log->count,
                     (long long)skip);
    for (int i = 0; i < summary_figures; i++)
        *(double *)((char *)s + summary_figure[i].at) = NAN;
    const struct step_record *first = &log->steps[0], *last = &log->steps[log->count - 1];
    s->steps = (double)log->count;
    s->first_step = (double)first->step;
    s->last_step = (double)last->step;
    s->loss_first = first->loss;
    s->loss_last = last->loss;
    memcpy(s->router_loss, last->router_loss, sizeof s->router_loss);
    s->grad_norm = last->grad_norm;
    if (log->evals)
        s->eval_loss = log->eval_loss[log->evals - 1];
    s->evals = (double)log->evals;
    s->saves = (double)log->saves;
    s->faults = (double)log->faults;
    s->restarts = log->starts > 1 ? (double)log->starts - 1 : 0;
    s->abandoned_steps = (double)log->abandoned;
    s->skipped_lines = (double)log->skipped_lines;
    throughput(s, log, (size_t)skip);
    phases(s, log, (size_t)skip);
    loads(s, log);
    totals(s, log);
    return 0;
}
