/* SPDX-License-Identifier: MIT */
/* Throughput and utilisation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/size.h"
#include "stat/quantile.h"
#include "stat/sum.h"
#include "stat/summary_parts.h"

bool step_rate(const struct step_record *r, double *rate)
{
    if (!(r->time_s > 0 && r->time_s <= MAX_STEP_S) || r->tokens <= 0)
        return false;
    *rate = (double)r->tokens / r->time_s;
    return true;
}

/* ---- percentiles ---- */

struct steps_from {
    struct steplog *log;
    size_t first;
};

static bool rate_of(void *of, size_t i, double *value)
{
    const struct steps_from *s = of;
    return step_rate(steplog_step(s->log, s->first + i), value);
}

static bool time_of(void *of, size_t i, double *value)
{
    const struct steps_from *s = of;
    const struct step_record *r = steplog_step(s->log, s->first + i);
    *value = r->time_s;
    double rate;
    return step_rate(r, &rate);
}

void part_warmup(struct summary *s, struct steplog *log)
{
    struct steps_from all = {log, 0};
    double median, t;
    size_t n = 0;
    if (!quantiles(&all, log->count, time_of, (double[]){0.5}, 1, &median))
        return;
    while (n < log->count && (!time_of(&all, n, &t) || t > 1.5 * median))
        n++;
    s->warmup_steps = (double)n;
}

static void percentiles(struct summary *s, struct steplog *log, size_t from)
{
    static const double p[] = {0.50, 0.95, 0.99};
    struct steps_from counted = {log, from};
    double q[3];
    quantiles(&counted, log->count - from, rate_of, p, 3, q);
    s->tokens_per_s_p50 = q[0];
    s->tokens_per_s_p95 = q[1];
    s->tokens_per_s_p99 = q[2];
    quantiles(&counted, log->count - from, time_of, p, 3, q);
    s->step_s_p50 = q[0];
    s->step_s_p95 = q[1];
    s->step_s_p99 = q[2];
}

/* ---- utilisation ---- */

/* What all ranks of the step could have computed in its time. NaN where the log does not tell. */
static double possible_flops(const struct log_segment *g, const struct step_record *r,
                             const struct known_figures *k)
{
    double peak = g->peak_flops > 0 ? g->peak_flops : k->peak_flops;
    return peak > 0 && g->world > 0 ? r->time_s * peak * g->world : NAN;
}

static double flops_of_token(const struct log_segment *g, const struct known_figures *k)
{
    return g->flops_per_token > 0 ? g->flops_per_token : k->flops_per_token;
}

static double model_flops(const struct log_segment *g, const struct step_record *r,
                          const struct known_figures *k)
{
    double each = flops_of_token(g, k);
    return each > 0 ? (double)r->tokens * each : NAN;
}

void summary_count_flops(struct steplog *log, const struct model *m)
{
    struct log_segment *s = log->segments;
    for (int i = 0; i < log->segment_count; i++, s++) {
        int64_t seq = s->seq > 0 ? s->seq : log->hint.seq;
        if (!(s->flops_per_token > 0) && seq > 0)
            s->flops_per_token = model_flops_per_token(m, seq);
    }
}

/* What is computed, over what the convention counts. Forward is a third of it. */
static double recomputed(const struct log_segment *g)
{
    return strcmp(g->recompute, "none") == 0 ? 1 : strcmp(g->recompute, "full") == 0 ? 4. / 3 : NAN;
}

/* Microbatches of a rank in one step. */
static double microbatches(const struct log_segment *g)
{
    return g->global_batch > 0 && g->micro_batch > 0 && g->dp > 0
               ? (double)g->global_batch / ((double)g->micro_batch * (double)g->dp)
               : NAN;
}

struct speed {
    struct sum tokens, time, rank_time, done, possible, computed, sequences, batches;
};

static void speed_add(struct speed *v, const struct log_segment *g, const struct step_record *r,
                      const struct known_figures *k)
{
    double done = model_flops(g, r, k);
    sum_add(&v->tokens, (double)r->tokens);
    sum_add(&v->time, r->time_s);
    sum_add(&v->rank_time, g->world > 0 ? r->time_s * g->world : NAN);
    sum_add(&v->done, done);
    sum_add(&v->computed, done * recomputed(g));
    sum_add(&v->possible, possible_flops(g, r, k));
    sum_add(&v->sequences, g->seq > 0 ? (double)r->tokens / (double)g->seq : NAN);
    sum_add(&v->batches, microbatches(g));
}

/* Two passes: the mean first, so that nothing cancels. */
static double deviation(struct steplog *log, size_t from, double mean)
{
    struct sum square = {0};
    double rate;
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (step_rate(r, &rate))
            sum_add(&square, (r->time_s - mean) * (r->time_s - mean));
    }
    return sqrt(sum_mean(&square));
}

static bool lone_time_of(void *of, size_t i, double *value)
{
    const struct steps_from *s = of;
    *value = steplog_step(s->log, s->first + i)->time_s;
    return *value > 0 && *value <= MAX_STEP_S;
}

/* Another trainer's log may tell how long steps took, but not how many tokens they had. */
static void times_alone(struct summary *s, struct steplog *log, size_t from)
{
    static const double p[] = {0.50, 0.95, 0.99};
    struct steps_from counted = {log, from};
    struct sum time = {0}, sequences = {0};
    double q[3], t;
    for (size_t i = from; i < log->count; i++)
        if (lone_time_of(&counted, i - from, &t)) {
            int64_t batch = steplog_segment(log, steplog_step(log, i))->global_batch;
            sum_add(&time, t);
            sum_add(&sequences, batch > 0 ? (double)batch : NAN);
        }
    if (time.count < 1)
        return;
    quantiles(&counted, log->count - from, lone_time_of, p, 3, q);
    s->step_s = sum_mean(&time);
    s->step_s_p50 = q[0];
    s->step_s_p95 = q[1];
    s->step_s_p99 = q[2];
    s->sequences_per_s = sum_value(&sequences) / sum_value(&time);
}

void part_speed(struct summary *s, struct steplog *log, size_t from, const struct known_figures *known)
{
    struct speed v = {0};
    double rate;
    s->untimed_steps = 0;
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (step_rate(r, &rate))
            speed_add(&v, steplog_segment(log, r), r, known);
        else
            s->untimed_steps++;
    }
    s->steps_counted = v.time.count;
    s->tokens = sum_value(&v.tokens);
    s->time_s = sum_value(&v.time);
    const struct log_segment *last = &log->segments[log->segment_count - 1];
    s->flops_per_token = flops_of_token(last, known);
    if (v.time.count < 1) {
        times_alone(s, log, from);
        return;
    }
    s->tokens_per_s = s->tokens / s->time_s;
    s->sequences_per_s = sum_value(&v.sequences) / s->time_s;
    s->step_s = sum_mean(&v.time);
    s->step_s_std = deviation(log, from, s->step_s);
    s->microbatch_s = s->time_s / sum_value(&v.batches);
    s->mfu = sum_value(&v.done) / sum_value(&v.possible);
    s->rank_flops_per_s = sum_value(&v.done) / sum_value(&v.rank_time);
    s->hfu = sum_value(&v.computed) / sum_value(&v.possible);
    percentiles(s, log, from);
}

struct segment_figures *summary_segments(struct steplog *log, int64_t skip)
{
    static const struct known_figures nothing = {NAN, NAN, NAN};
    size_t n = (size_t)log->segment_count;
    struct speed *v = xcalloc(n + 1, sizeof *v);
    struct segment_figures *to = xcalloc(n + 1, sizeof *to);
    double rate;
    for (size_t i = 0; i < n; i++)
        to[i].first_loss = to[i].last_loss = NAN;
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        struct segment_figures *s = &to[r->segment];
        if (isnan(s->first_loss))
            s->first_loss = r->loss;
        s->last_loss = r->loss;
        if (i >= (size_t)skip && step_rate(r, &rate))
            speed_add(&v[r->segment], steplog_segment(log, r), r, &nothing);
    }
    for (size_t i = 0; i < n; i++) {
        to[i].steps = v[i].time.count;
        to[i].tokens_per_s = sum_value(&v[i].tokens) / sum_value(&v[i].time);
        to[i].mfu = sum_value(&v[i].done) / sum_value(&v[i].possible);
    }
    free(v);
    return to;
}
