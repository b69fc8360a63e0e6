/* SPDX-License-Identifier: MIT */
/* Where a rank's time goes: one phase at a time, so the phases add up to the step. */
#ifndef ENGINE_PROFILE_H
#define ENGINE_PROFILE_H

#include "base/alive.h"
#include "base/phases.h"
#include "base/process.h"

struct profile {
    double spent_s[PHASES];
    double since_s;
    enum phase now;
};

static inline void profile_start(struct profile *p)
{
    *p = (struct profile){.since_s = now_s(), .now = PHASE_IDLE};
}

/* Charges the time so far to the current phase and goes on in `next`; returns the phase that was current. A
 * sign of life, too. */
static inline enum phase profile_enter(struct profile *p, enum phase next)
{
    double t = now_s();
    enum phase before = p->now;
    p->spent_s[before] += t - p->since_s;
    p->since_s = t;
    p->now = next;
    alive();
    return before;
}

/* Moves seconds already charged to `from` over to `to`. */
static inline void profile_move(struct profile *p, enum phase from, enum phase to, double s)
{
    p->spent_s[from] -= s;
    p->spent_s[to] += s;
}

#endif
