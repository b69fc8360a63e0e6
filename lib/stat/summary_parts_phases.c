/* SPDX-License-Identifier: MIT */
/* Where the time of a step goes, and who makes the others wait. */
#include <math.h>
#include <string.h>

#include "stat/sum.h"
#include "stat/summary_parts.h"

static bool timed(const struct step_record *r)
{
    return r->time_s > 0 && r->time_s <= MAX_STEP_S;
}

/* Shares of the time of those steps that have phases at all. */
static void shares(struct summary *s, struct steplog *log, size_t from)
{
    struct sum time = {0}, sum[PHASES] = {0}, excess = {0};
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        bool any = false;
        for (int p = 0; p < PHASES && timed(r); p++)
            if (isfinite(r->phase_s[p])) {
                sum_add(&sum[p], r->phase_s[p]);
                any = true;
            }
        if (!any)
            continue;
        sum_add(&time, r->time_s);
        for (int p = 0; p < PHASES; p++)
            if (p == PHASE_FORWARD || p == PHASE_BACKWARD || p == PHASE_OPTIMIZER)
                sum_add(&excess, r->phase_max_s[p] - r->phase_s[p]);
    }
    for (int p = 0; p < PHASES; p++)
        if (sum[p].count > 0)
            s->value[FIGURE_forward_share + p] = sum_value(&sum[p]) / sum_value(&time);
    if (time.count > 0)
        s->straggler_share = sum_value(&excess) / sum_value(&time);
}

static void communication(struct summary *s, struct steplog *log, size_t from)
{
    struct sum time = {0}, busy = {0}, exposed = {0};
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        bool any = false;
        for (int k = 0; k < COMM_TIMES && timed(r); k++)
            if (isfinite(r->busy_s[k]) && isfinite(r->exposed_s[k])) {
                sum_add(&busy, r->busy_s[k]);
                sum_add(&exposed, r->exposed_s[k]);
                any = true;
            }
        if (any)
            sum_add(&time, r->time_s);
    }
    if (time.count < 1)
        return;
    s->exposed_share = sum_value(&exposed) / sum_value(&time);
    s->overlap = sum_value(&busy) > 0 ? 1 - sum_value(&exposed) / sum_value(&busy) : NAN;
}

/* What the schedule of the last start should leave idle. */
static double formula(const struct log_segment *g)
{
    double p = (double)g->pp, v = (double)g->vpp;
    double m = (double)g->global_batch / ((double)g->micro_batch * (double)g->dp);
    if (!(p >= 1 && v >= 1 && m >= 1) || !isfinite(m))
        return NAN;
    if (strcmp(g->schedule, "zb-h1") == 0)
        m *= 3;
    else if (v > 1)
        m *= v;
    return (p - 1) / (m + p - 1);
}

void part_phases(struct summary *s, struct steplog *log, size_t from)
{
    shares(s, log, from);
    communication(s, log, from);
    const struct log_segment *last = &log->segments[log->segment_count - 1];
    s->bubble_formula = formula(last);
    if (last->pp > 0)
        s->bubble = last->pp > 1 ? s->idle_share : 0;
}

void summary_bounds(struct phase_bounds to[static PHASES], const struct summary *s, struct steplog *log,
                    int64_t skip)
{
    struct sum least[PHASES] = {0}, most[PHASES] = {0}, time[PHASES] = {0};
    for (size_t i = (size_t)skip; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        for (int p = 0; p < PHASES && timed(r); p++)
            if (isfinite(r->phase_max_s[p])) {
                sum_add(&least[p], r->phase_min_s[p] > 0 ? r->phase_min_s[p] : 0);
                sum_add(&most[p], r->phase_max_s[p]);
                sum_add(&time[p], r->time_s);
            }
    }
    for (int p = 0; p < PHASES; p++) {
        bool known = time[p].count > 0 && isnan(s->value[FIGURE_forward_share + p]);
        to[p].least_share = known ? sum_value(&least[p]) / sum_value(&time[p]) : NAN;
        to[p].most_share = known ? fmin(1, sum_value(&most[p]) / sum_value(&time[p])) : NAN;
    }
}

/* ---- stragglers ---- */

/* The ranks of one phase that may be the slowest in more than one step of STRAGGLER_RANKS + 1: all of them are
 * here after one pass. (J. Misra, D. Gries, Finding repeated elements, Science of Computer Programming 2,
 * 1982.) */
struct candidates {
    int rank[STRAGGLER_RANKS], count;
    double times[STRAGGLER_RANKS];
};

static int find(const struct candidates *c, int rank)
{
    for (int i = 0; i < c->count; i++)
        if (c->rank[i] == rank)
            return i;
    return -1;
}

static void propose(struct candidates *c, int rank)
{
    int i = find(c, rank), kept = 0;
    if (i >= 0) {
        c->times[i]++;
    } else if (c->count < STRAGGLER_RANKS) {
        c->rank[c->count] = rank;
        c->times[c->count++] = 1;
    } else {
        for (i = 0; i < c->count; i++)
            if (--c->times[i] > 0) {
                c->rank[kept] = c->rank[i];
                c->times[kept++] = c->times[i];
            }
        c->count = kept;
    }
}

/* Whether a step tells who was slowest: nobody, where all took the same time. */
static bool tells(const struct step_record *r, int p)
{
    return timed(r) && r->phase_rank[p] >= 0 && r->phase_max_s[p] > r->phase_s[p] &&
           isfinite(r->phase_max_s[p]);
}

static void count_again(struct candidates *c, struct straggler *to, struct steplog *log, size_t from, int p)
{
    struct sum excess = {0}, mean = {0}, time = {0};
    memset(c->times, 0, sizeof c->times);
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (!tells(r, p))
            continue;
        int k = find(c, r->phase_rank[p]);
        if (k >= 0)
            c->times[k]++;
        sum_add(&excess, r->phase_max_s[p] - r->phase_s[p]);
        sum_add(&mean, r->phase_s[p]);
        sum_add(&time, r->time_s);
    }
    int best = 0;
    for (int k = 1; k < c->count; k++)
        if (c->times[k] > c->times[best] || (c->times[k] == c->times[best] && c->rank[k] < c->rank[best]))
            best = k;
    *to = (struct straggler){.rank = c->count ? c->rank[best] : -1,
                             .times = c->count ? c->times[best] : 0,
                             .steps = time.count,
                             .excess_share = sum_value(&excess) / sum_value(&time),
                             .excess = sum_value(&excess) / sum_value(&mean)};
}

void summary_stragglers(struct straggler to[static PHASES], struct steplog *log, int64_t skip)
{
    struct candidates c[PHASES] = {0};
    for (size_t i = (size_t)skip; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        for (int p = 0; p < PHASES; p++)
            if (tells(r, p))
                propose(&c[p], r->phase_rank[p]);
    }
    for (int p = 0; p < PHASES; p++)
        count_again(&c[p], &to[p], log, (size_t)skip, p);
}
