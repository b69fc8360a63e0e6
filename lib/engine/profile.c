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
    for (int i = 0; i < p->span_room; i++) {
        p->be->event_free(p->spans[i].begin);
        p->be->event_free(p->spans[i].end);
    }
    free(p->marks);
    free(p->spans);
    *p = (struct profile){0};
}

static void make_room(struct profile *p)
{
    int room = p->room ? 2 * p->room : 64;
    p->marks = xrealloc(p->marks, (size_t)room, sizeof *p->marks);
    for (; p->room < room; p->room++)
        p->marks[p->room].at = p->be->event_new();
}

static void make_span_room(struct profile *p)
{
    int room = p->span_room ? 2 * p->span_room : 64;
    p->spans = xrealloc(p->spans, (size_t)room, sizeof *p->spans);
    for (; p->span_room < room; p->span_room++)
        p->spans[p->span_room] = (struct phase_span){.begin = p->be->event_new(), .end = p->be->event_new()};
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
    m->beside_s = 0;
    p->be->event_record(m->at, p->s);
    alive();
    return before;
}

void profile_start(struct profile *p)
{
    int kept = 0;
    for (int i = 0; i < p->span_count; i++)
        if (p->spans[i].waiter < 0) {
            struct phase_span x = p->spans[kept];
            p->spans[kept++] = p->spans[i];
            p->spans[i] = x;
        }
    p->span_count = kept;
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

void profile_begin(struct profile *p, struct stream *s)
{
    if (p->quiet)
        return;
    if (p->span_count == p->span_room)
        make_span_room(p);
    struct phase_span *x = &p->spans[p->span_count++];
    x->in = s;
    x->waiter = -1;
    p->be->event_record(x->begin, s);
}

/* The last in s that has not been waited for, below `before`; NULL: there is none. */
static struct phase_span *open_span(const struct profile *p, const struct stream *s, int before)
{
    while (before > 0 && p->spans[before - 1].in != s)
        before--;
    struct phase_span *x = before > 0 ? &p->spans[before - 1] : NULL;
    return x && x->waiter < 0 ? x : NULL;
}

void profile_end(struct profile *p, struct stream *s)
{
    struct phase_span *x = p->quiet ? NULL : open_span(p, s, p->span_count);
    if (x)
        p->be->event_record(x->end, s);
}

enum phase profile_join(struct profile *p, enum phase phase, const struct stream *s)
{
    enum phase before = mark(p, phase, NULL);
    struct phase_span *x = p->quiet ? NULL : open_span(p, s, p->span_count);
    for (; x; x = open_span(p, s, (int)(x - p->spans)))
        x->waiter = p->count - 1;
    return before;
}

enum phase profile_join_first(struct profile *p, enum phase phase, const struct stream *s, int count)
{
    enum phase before = mark(p, phase, NULL);
    for (struct phase_span *x = p->spans; x < p->spans + p->span_count && count > 0 && !p->quiet; x++)
        if (x->in == s && x->waiter < 0) {
            x->waiter = p->count - 1;
            count--;
        }
    return before;
}

/* The stretch from a mark to the next. Of a wait for a message the part until it arrived is idle. */
static void charge(const struct profile *p, const struct phase_mark *m, struct profile_times *t)
{
    double length = p->be->elapsed(m[0].at, m[1].at), idle = 0, beside = m->beside_s;
    if (m->message) {
        double begin = p->since_s + p->be->elapsed(p->marks[0].at, m->at), arrived = m->message->arrived_s;
        idle = arrived > 0 ? fmin(length, fmax(0, arrived - begin)) : 0;
        beside = arrived > 0 ? m->message->done_s - arrived : 0;
    }
    t->hidden_s[m->phase] += fmax(0, beside - (length - idle));
    t->spent_s[m->phase] += length - idle;
    t->spent_s[PHASE_IDLE] += idle;
}

void profile_close(struct profile *p, struct profile_times *t)
{
    *t = (struct profile_times){0};
    double sum = p->be->elapsed(p->marks[0].at, p->marks[p->count - 1].at);
    t->total_s = now_s() - p->since_s;
    for (const struct phase_span *x = p->spans; x < p->spans + p->span_count; x++)
        if (x->waiter >= 0)
            p->marks[x->waiter].beside_s += p->be->elapsed(x->begin, x->end);
    for (int i = 0; i + 1 < p->count; i++)
        charge(p, &p->marks[i], t);
    t->spent_s[p->marks[p->count - 1].phase] += t->total_s - sum;
    profile_start(p);
}
