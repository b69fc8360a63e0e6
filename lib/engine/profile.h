/* SPDX-License-Identifier: MIT */
/* Where a rank's time goes: one phase at a time, so the phases add up to the step. A phase begins and ends with
 * events in the stream that computes, so it has what that stream does and waits for, whenever that is. Of
 * communication in other streams it has what is waited for; what it takes beyond that is hidden. */
#ifndef ENGINE_PROFILE_H
#define ENGINE_PROFILE_H

#include "backend.h"
#include "base/phases.h"
#include "comm/collective.h"

/* From here on the stream is in this phase. */
struct phase_mark {
    struct event *at;
    enum phase phase;
    const struct comm_times *message; /* what it waits for, or NULL */
    double beside_s;                  /* what it waits for in another stream took this long, as it ran there */
};

/* Work in another stream. */
struct phase_span {
    struct event *begin, *end;
    const struct stream *in;
    int waiter; /* the mark that waits for it; -1: none yet */
};

struct profile {
    const struct backend *be;
    struct stream *s;
    struct phase_mark *marks; /* since profile_start(); their events are kept for the next time */
    int count, room;
    struct phase_span *spans; /* likewise, and those before that nobody has waited for yet */
    int span_count, span_room;
    double since_s; /* now_s() at the first */
    bool quiet;     /* no marks are made: the phase goes on whatever is entered */
};

/* What became of the time. */
struct profile_times {
    double total_s;
    double spent_s[PHASES];
    /* Communication beside other phases: of rows and results from when their turn came, of messages from other
     * stages from when they were there to be moved. */
    double hidden_s[PHASES];
};

void profile_init(struct profile *p, const struct backend *be, struct stream *s);
void profile_release(struct profile *p);
/* From now on, in PHASE_IDLE; nothing is queued in the stream. */
void profile_start(struct profile *p);
/* The stream goes on in `next`; returns the phase that it was in. A sign of life, too. */
enum phase profile_enter(struct profile *p, enum phase next);
/* In PHASE_PP, to wait for a message. Until that is there to be moved the stream is idle. */
enum phase profile_await(struct profile *p, const struct comm_times *message);
/* Work in stream s, which no other of it holds; it is over when all is that was queued there in between. */
void profile_begin(struct profile *p, struct stream *s);
void profile_end(struct profile *p, struct stream *s);
/* In `phase`, to wait for all such work in s that nobody has waited for, or for the first `count` of it. */
enum phase profile_join(struct profile *p, enum phase phase, const struct stream *s);
enum phase profile_join_first(struct profile *p, enum phase phase, const struct stream *s, int count);
/* All since profile_start(), which is done again; all that was queued in the stream is done. */
void profile_close(struct profile *p, struct profile_times *t);

#endif
