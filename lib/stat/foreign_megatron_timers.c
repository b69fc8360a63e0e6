/* SPDX-License-Identifier: MIT */
/* Megatron's timers (megatron/core/timers.py, and megatron/timers.py or global_vars.py before), which follow
 * the line of their iteration, as means over its interval. By --timing-log-option and version:
 *
 *   (min, max) time across ranks (ms):                          or: max time across ranks (ms):
 *       forward-compute ................................: (100.10, 120.20)            …....: 120.20
 *   times across ranks (ms):
 *     forward-compute:
 *        rank  0: 100.10
 *   time (ms) | forward-compute: 100.10 | backward-compute: 200.20 | optimizer: 5.00     (of the last rank)
 *
 * Ranks that did not use a timer are left out of the least one, so that it bounds a mean only where all use it.
 * A mean over ranks is known where all are listed, or where there is one. Timers that lie within others
 * (optimizer-…), or do so in some versions (params-all-gather), are passed over. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stat/foreign.h"

static const struct timer {
    const char *name;
    enum phase phase;
    bool everywhere; /* all ranks use it */
} timers[] = {
    {"forward-compute", PHASE_FORWARD, true},
    {"backward-compute", PHASE_BACKWARD, true},
    {"forward-recv", PHASE_PP, false},
    {"forward-send", PHASE_PP, false},
    {"backward-recv", PHASE_PP, false},
    {"backward-send", PHASE_PP, false},
    {"forward-send-forward-recv", PHASE_PP, false},
    {"forward-send-backward-recv", PHASE_PP, false},
    {"backward-send-forward-recv", PHASE_PP, false},
    {"backward-send-backward-recv", PHASE_PP, false},
    {"forward-backward-send-forward-backward-recv", PHASE_PP, false},
    {"all-grads-sync", PHASE_DP, true},
    {"grads-all-reduce", PHASE_DP, true},
    {"grads-reduce-scatter", PHASE_DP, true},
    {"backward-params-all-reduce", PHASE_DP, true},
    {"embedding-grads-all-reduce", PHASE_DP, false},
    {"backward-embedding-all-reduce", PHASE_DP, false},
    {"optimizer", PHASE_OPTIMIZER, true},
};
enum { TIMERS = sizeof timers / sizeof *timers };

static bool ends_here(const char *line, const char *end, const char *name)
{
    size_t n = strlen(name), have = (size_t)(end - line);
    return have >= n && memcmp(end - n, name, n) == 0 && (have == n || end[-(ptrdiff_t)n - 1] == ' ');
}

/* The timer whose name ends here; -1: none of those that count. */
static int timer_before(const char *line, const char *end)
{
    for (int i = 0; i < TIMERS; i++)
        if (ends_here(line, end, timers[i].name))
            return i;
    return -1;
}

/* Whether the timer is the first of its phase in this step; -1: another source has told of the phase, which
 * stays. forward-backward, which comes before both, bounds them until then. */
static int first_of(struct foreign *g, int phase)
{
    const struct step_record *r = &g->step;
    unsigned bit = 1u << phase;
    bool bound = g->timers.together && (phase == PHASE_FORWARD || phase == PHASE_BACKWARD);
    if (g->timers.begun & bit)
        return 0;
    if (!bound && !(isnan(r->phase_s[phase]) && isnan(r->phase_max_s[phase])))
        return -1;
    g->timers.begun |= bit;
    return 1;
}

static void add(double *to, double x, bool first)
{
    *to = first ? x : *to + x;
}

/* A timer's least, mean and largest over ranks; NaN: not known. */
static void add_timer(struct foreign *g, const struct timer *t, double least, double mean, double most)
{
    struct step_record *r = &g->step;
    int first = first_of(g, t->phase);
    if (first < 0)
        return;
    add(&r->phase_min_s[t->phase], t->everywhere && least > 0 ? least : 0, first);
    add(&r->phase_s[t->phase], mean, first);
    add(&r->phase_max_s[t->phase], most, first);
}

/* "NAME ....: (1.0, 2.0)" or "NAME ....: 2.0" */
static bool read_dotted(struct foreign *g, const char *line)
{
    double least = NAN, most;
    const char *dots = strstr(line, " ..");
    const char *value = dots ? dots + 1 + strspn(dots + 1, ".") : NULL;
    if (!value || *value != ':')
        return false;
    value += 1 + strspn(value + 1, " ");
    if (*value == '(' && (!foreign_number(++value, "", &least) || !(value = strchr(value, ' '))))
        return true;
    if (!foreign_number(value, "", &most) || !(most >= 0) || least < 0 || least > most)
        return true;
    if (ends_here(line, dots, "save-checkpoint") && g->save.step >= 0)
        g->save.time_s = most / 1000;
    int i = timer_before(line, dots);
    bool together = ends_here(line, dots, "forward-backward");
    if (g->step.step < 0 || (i < 0 && !together))
        return true;
    if (g->phases == FOREIGN_NONE)
        g->phases = FOREIGN_BOUNDS;
    if (together) {
        g->step.phase_max_s[PHASE_FORWARD] = g->step.phase_max_s[PHASE_BACKWARD] = most / 1000;
        g->timers.together = true;
        return true;
    }
    bool one = least == most || foreign_segment(g)->world == 1;
    add_timer(g, &timers[i], least / 1000, one && timers[i].everywhere ? most / 1000 : NAN, most / 1000);
    return true;
}

/* "NAME:", and then a line a rank that used it. */
static bool read_listed(struct foreign *g, const char *line)
{
    struct megatron_timers *m = &g->timers;
    int64_t rank;
    double v;
    size_t n = strlen(line);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    if (n > 1 && line[n - 1] == ':') {
        m->listed = g->step.step >= 0 ? timer_before(line, line + n - 1) : -1;
        m->first = m->listed < 0 ? -1 : first_of(g, timers[m->listed].phase);
        m->before_s = m->first == 0 ? g->step.phase_s[timers[m->listed].phase] : 0;
        m->sum_ms = m->ranks = 0;
        return m->first >= 0;
    }
    const char *p = strstr(line, "rank ");
    const char *colon = p ? strchr(p, ':') : NULL;
    if (m->listed < 0 || m->first < 0 || g->step.step < 0 || !colon || !foreign_integer(p, "rank", &rank) ||
        rank > INT32_MAX || !foreign_number(colon + 1, "", &v) || !(v >= 0 && v < 1e12))
        return false;
    struct step_record *r = &g->step;
    int phase = timers[m->listed].phase, world = foreign_segment(g)->world;
    m->sum_ms += v;
    m->ranks++;
    r->phase_s[phase] = m->before_s + m->sum_ms / (world > m->ranks ? world : m->ranks) / 1000;
    if (m->first && (m->ranks == 1 || v / 1000 > r->phase_max_s[phase])) {
        r->phase_max_s[phase] = v / 1000;
        r->phase_rank[phase] = (int32_t)rank;
    } else if (!m->first) { /* of several timers, who was the slowest in all is not told */
        r->phase_max_s[phase] = NAN;
        r->phase_rank[phase] = -1;
    }
    g->phases = FOREIGN_MEANS;
    return true;
}

static bool read_barred(struct foreign *g, const char *line)
{
    char name[64];
    double v;
    const char *p = strstr(line, "time (ms) |");
    for (int i = 0; p && g->step.step >= 0 && i < TIMERS; i++) {
        snprintf(name, sizeof name, "%s:", timers[i].name);
        if (foreign_number(p, name, &v) && v >= 0)
            add_timer(g, &timers[i], NAN, v / 1000, NAN);
    }
    return p;
}

bool foreign_timers(struct foreign *g, const char *line)
{
    return read_dotted(g, line) || read_listed(g, line) || read_barred(g, line);
}
