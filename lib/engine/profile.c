/* SPDX-License-Identifier: MIT */
#include "engine/profile.h"

#include <math.h>
#include <stdlib.h>

#include "base/alive.h"
#include "base/memory.h"
#include "base/process.h"

void profile_init(struct profile *p, const struct backend *be, struct stream *s)
{
    *p = (struct profile){.be = be, .s = s};
    profile_start(p);
}

void profile_release(struct profile *p)
{
    for (int i = 0; i < p->room; i++)
        p->be->event_free(p->marks[i].at);
    free(p->marks);
    *p = (struct profile){0};
}

static void make_room(struct profile *p)
{
    int room = p->room ? 2 * p->room : 64;
    p->marks = xrealloc(p->marks, (size_t)room, sizeof *p->marks);
    for (; p->room < room; p->room++)
        p->marks[p->room].at = p->be->event_new();
}

static enum phase mark(struct profile *p, enum phase phase, const struct comm_times *message)
{
    enum phase before = p->count ? p->marks[p->count - 1].phase : PHASE_IDLE;
    if (p->quiet)
        return before;
    if (p->count == p->room)
        make_room(p);
    struct phase_mark *m = &p->marks[p->count++];
    m->phase = phase;
    m->message = message;
    p->be->event_record(m->at, p->s);
    alive();
    return before;
}

void profile_start(struct profile *p)
{
    p->count = 0;
    p->since_s = now_s();
    mark(p, PHASE_IDLE, NULL);
}

enum phase profile_enter(struct profile *p, enum phase next)
{
    return mark(p, next, NULL);
}

enum phase profile_await(struct profile *p, const struct comm_times *message)
{
    return mark(p, PHASE_PP, message);
}

/* The stretch from a mark to the next. Of a wait for a message the part until it arrived is idle. */
static void charge(const struct profile *p, const struct phase_mark *m, struct profile_times *t)
{
    double length = p->be->elapsed(m[0].at, m[1].at), idle = 0;
    if (m->message) {
        double begin = p->since_s + p->be->elapsed(p->marks[0].at, m->at), arrived = m->message->arrived_s;
        idle = arrived > 0 ? fmin(length, fmax(0, arrived - begin)) : 0;
        t->messages_s += arrived > 0 ? m->message->done_s - arrived : length;
    }
    t->spent_s[m->phase] += length - idle;
    t->spent_s[PHASE_IDLE] += idle;
}

void profile_close(struct profile *p, struct profile_times *t)
{
    *t = (struct profile_times){0};
    double sum = p->be->elapsed(p->marks[0].at, p->marks[p->count - 1].at);
    t->total_s = now_s() - p->since_s;
    for (int i = 0; i + 1 < p->count; i++)
        charge(p, &p->marks[i], t);
    t->spent_s[p->marks[p->count - 1].phase] += t->total_s - sum;
    profile_start(p);
}
