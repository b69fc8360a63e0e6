/* SPDX-License-Identifier: MIT */
#include "comm/mpi_alive.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/halt.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/mpi_message.h"

#define ASK_MOST_S    5.0  /* a question comes after an eighth of the time-out, but not later than this */
#define TICK_S        0.05 /* how often a rank looks for questions */
#define SLOW_BPS      1e7  /* a message that both sides know of may move as slowly as this */
#define TOLD_SHARE    0.5  /* of the time that mpirun leaves after its SIGTERM: then a rank says why it ends */
#define TOLD_SILENT_S 15   /* Slurm does KillWait after its SIGTERM, 30 seconds unless a site says otherwise */
#define TOLD_STAY_S   0.3  /* and all should look at who is gone before the first of the others goes */
#define GONE_S        0.25 /* how often a rank that waits looks whether the others of its host are there */
enum { ASKED_MOST = 64, NAMED_MOST = 8 };

/* A question, or what a rank says of itself. */
struct letter {
    int32_t question, waiting;
    int32_t end, circle; /* the rank that it waits for in the end; the chain leads back to one who waits */
    int32_t gave_up;     /* the wait is over: `end` is lost */
    double age_s;        /* since the last sign of life of `end` */
};

/* What this rank knows of another that it has asked. Times are on the own clock. */
struct known {
    int rank;
    bool asked; /* a question is under way */
    double asked_at, heard;
    bool waiting, circle, gave_up;
    int end;
    double sign; /* of life of `end`; of a circle, since when this rank knows of it */
};

struct posted {
    struct letter letter;
    MPI_Request request;
    struct posted *next;
};

struct neighbour {
    int rank, pid; /* pid 0: of another namespace */
    int64_t space; /* that namespace */
};

struct signs {
    MPI_Comm talk;
    double clock;    /* time that this rank has watched, until last_s */
    double last_s;   /* now_s() of the last look for letters */
    double judged_s; /* and of the last judgement of those awaited: alive() looks too, between two polls */
    double stood_s;  /* the longest time without such a look */
    double told_s;   /* when this rank saw that it was told to end */
    double gone_s;   /* now_s() of the last look for ranks that are gone */
    struct patience *wait; /* NULL: this rank works */
    bool gave_up;          /* and tells so until it waits anew */
    bool gone;             /* because it saw that the process is gone */
    struct letter verdict;
    double verdict_sign;
    int through; /* the rank awaited that led to it */
    struct known *known;
    int count, room;
    int *askers; /* since the wait began */
    int asker_count, asker_room;
    struct letter said; /* to them, the last time */
    double said_sign;
    struct posted *posted;
    struct neighbour *local;
    int locals;
    double grace_s;          /* between the launcher's SIGTERM and its kill; 0: long */
    char (*host)[HOST_NAME]; /* of each rank: of one that is gone nobody can be asked */
};

static struct signs *signs_of(const struct comm *c)
{
    return ((struct mpi *)c->state)->signs;
}

static double ask_after(const struct comm *c)
{
    return fmin(c->timeout / 8, ASK_MOST_S);
}

/* ---- opening and closing ---- */

static void answer_hook(void *c)
{
    mpi_answer(c);
}

static int tell_hosts(const struct comm *c, struct signs *s)
{
    char mine[HOST_NAME] = "";
    process_host(mine);
    s->host = xcalloc((size_t)c->size, sizeof *s->host);
    return MPI_Allgather(mine, sizeof mine, MPI_BYTE, s->host, sizeof mine, MPI_BYTE, s->talk);
}

static int meet_neighbours(struct comm *c, struct signs *s, MPI_Comm host)
{
    struct neighbour me = {c->rank, (int)getpid(), process_space()};
    bool sees = process_state(me.pid) != 0; /* not of the neighbours: one may be gone by now */
    s->locals = c->local_ranks;
    s->local = xcalloc((size_t)s->locals, sizeof *s->local);
    int code = MPI_Allgather(&me, sizeof me, MPI_BYTE, s->local, sizeof me, MPI_BYTE, host);
    halt_at("meet");
    halt_io("met");
    for (int i = 0; i < s->locals && !code; i++)
        if (s->local[i].space != me.space || !sees)
            s->local[i].pid = 0;
    return code;
}

int mpi_alive_open(struct comm *c, MPI_Comm host)
{
    struct mpi *m = c->state;
    struct signs *s = m->signs = xcalloc(1, sizeof *s);
    s->last_s = now_s();
    s->grace_s = launcher_grace_s();
    int code = MPI_Comm_dup(m->comm, &s->talk);
    if (!code)
        code = MPI_Comm_set_errhandler(s->talk, MPI_ERRORS_RETURN);
    if (!code)
        code = tell_hosts(c, s);
    if (!code)
        code = meet_neighbours(c, s, host);
    alive_hook(answer_hook, c);
    return code;
}

/* Letters that nobody has received, and may never, stay where they are until the process ends. */
void mpi_alive_close(struct comm *c)
{
    struct mpi *m = c->state;
    struct signs *s = m->signs;
    if (!s)
        return;
    alive_hook(NULL, NULL);
    if (!s->posted) {
        if (s->talk != MPI_COMM_NULL)
            MPI_Comm_free(&s->talk);
    }
    free(s->known);
    free(s->askers);
    free(s->local);
    free(s->host);
    free(s);
    m->signs = NULL;
}

/* ---- letters ---- */

/* Time counts only as far as it was watched: a gap longer than this rank's attention is cut. */
static void look_at_clock(const struct comm *c, struct signs *s, double now)
{
    double gap = now - s->last_s, most = c->timeout > 0 ? fmin(1, c->timeout / 8) : 1;
    s->stood_s = fmax(s->stood_s, gap);
    s->clock += fmin(gap, most);
    s->last_s = now;
}

static struct known *know(struct signs *s, int rank)
{
    for (int i = 0; i < s->count; i++)
        if (s->known[i].rank == rank)
            return &s->known[i];
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 16;
        s->known = xrealloc(s->known, (size_t)s->room, sizeof *s->known);
    }
    s->known[s->count] = (struct known){.rank = rank, .asked_at = -INFINITY, .heard = -INFINITY};
    return &s->known[s->count++];
}

static void post_letter(struct signs *s, int rank, const struct letter *l)
{
    struct posted *out = xmalloc(sizeof *out);
    *out = (struct posted){.letter = *l, .next = s->posted};
    if (MPI_Isend(&out->letter, sizeof out->letter, MPI_BYTE, rank, 0, s->talk, &out->request)) {
        free(out); /* it will be missed */
        return;
    }
    s->posted = out;
}

static void forget_sent(struct signs *s)
{
    for (struct posted **at = &s->posted; *at;) {
        struct posted *out = *at;
        int flag = 0;
        if (!MPI_Test(&out->request, &flag, MPI_STATUS_IGNORE) && !flag) {
            at = &out->next;
            continue;
        }
        *at = out->next;
        free(out);
    }
}

/* What this rank says of itself: of several that it waits for, the one whose chain is the oldest. */
static struct letter describe(struct signs *s, double *sign)
{
    struct letter l = {.end = -1};
    *sign = s->clock;
    if (s->gave_up) {
        l = s->verdict;
        *sign = s->verdict_sign;
    } else if (s->wait) {
        const struct patience *p = s->wait;
        int peer[ASKED_MOST], n = p->awaited(p->of, peer, ASKED_MOST);
        *sign = INFINITY;
        for (int i = 0; i < n; i++) {
            const struct known *k = know(s, p->g->ranks[peer[i]]);
            bool fresh = k->heard >= p->start, chain = fresh && k->waiting;
            double seen = chain ? k->sign : fresh ? k->heard : p->start;
            if (seen < *sign) {
                *sign = seen;
                l.end = chain ? k->end : k->rank;
                l.circle = chain && k->circle;
            }
        }
        l.waiting = n > 0;
    }
    l.age_s = l.waiting ? s->clock - *sign : 0;
    return l;
}

static void tell(struct signs *s, int rank)
{
    s->said = describe(s, &s->said_sign);
    post_letter(s, rank, &s->said);
}

static void tell_askers(struct signs *s)
{
    for (int i = 0; i < s->asker_count; i++)
        tell(s, s->askers[i]);
}

static void note_asker(struct signs *s, int rank)
{
    for (int i = 0; i < s->asker_count; i++)
        if (s->askers[i] == rank)
            return;
    if (s->asker_count == s->asker_room) {
        s->asker_room = s->asker_room ? 2 * s->asker_room : 16;
        s->askers = xrealloc(s->askers, (size_t)s->asker_room, sizeof *s->askers);
    }
    s->askers[s->asker_count++] = rank;
}

static void hear(const struct comm *c, struct signs *s, int rank, const struct letter *l)
{
    struct known *k = know(s, rank);
    bool mine = l->waiting && l->end == c->rank && s->wait; /* it waits for this rank, which waits for it */
    bool circle = l->waiting && (l->circle || mine), circled = k->waiting && k->circle;
    if (!circle)
        k->sign = s->clock - l->age_s;
    else if (!circled) /* an age that goes round and round would never grow */
        k->sign = s->clock;
    k->asked = false;
    k->heard = s->clock;
    k->waiting = l->waiting;
    k->gave_up = l->gave_up;
    k->end = mine ? rank : l->end;
    k->circle = circle;
}

static void read_letters(const struct comm *c, struct signs *s)
{
    bool news = false;
    for (;;) {
        int there = 0;
        MPI_Status status;
        struct letter l;
        if (MPI_Iprobe(MPI_ANY_SOURCE, 0, s->talk, &there, &status) || !there)
            break;
        int rank = status.MPI_SOURCE;
        if (MPI_Recv(&l, sizeof l, MPI_BYTE, rank, 0, s->talk, MPI_STATUS_IGNORE))
            break;
        if (l.question) {
            if (s->wait || s->gave_up)
                note_asker(s, rank);
            tell(s, rank);
        } else {
            hear(c, s, rank, &l);
            news = true;
        }
    }
    if (!news || !s->asker_count)
        return;
    double sign;
    struct letter now = describe(s, &sign);
    if (now.end != s->said.end || now.circle != s->said.circle || now.waiting != s->said.waiting ||
        sign > s->said_sign + ask_after(c) / 4)
        tell_askers(s);
}

static double tick(const struct comm *c)
{
    return c->timeout > 0 ? fmin(TICK_S, c->timeout / 64) : TICK_S;
}

/* If it is time. */
static void look(const struct comm *c, struct signs *s, double now)
{
    if (now - s->last_s < tick(c))
        return;
    look_at_clock(c, s, now);
    read_letters(c, s);
    if (s->posted)
        forget_sent(s);
}

void mpi_answer(struct comm *c)
{
    look(c, signs_of(c), now_s());
}

/* ---- whom to blame ---- */

/* A rank of this host that is gone (or stopped, too), or -1. */
static int local_lost(const struct comm *c, bool stopped_too)
{
    const struct signs *s = signs_of(c);
    for (int i = 0; s && i < s->locals; i++) {
        const struct neighbour *n = &s->local[i];
        char state = n->pid && n->rank != c->rank ? process_state(n->pid) : 'R';
        if (!state || state == 'Z' || state == 'X' || (stopped_too && state == 'T'))
            return n->rank;
    }
    return -1;
}

void mpi_blame(const struct group *g, const char *what, int rank, const int *peer, int count)
{
    struct comm_fault *f = &g->c->fault;
    *f = (struct comm_fault){.rank = rank};
    snprintf(f->host, sizeof f->host, "%s", rank < 0 ? "" : signs_of(g->c)->host[rank]);
    snprintf(f->collective, sizeof f->collective, "%s", what);
    snprintf(f->group, sizeof f->group, "%s", g->name);
    for (int i = 0; i < count && i < COMM_AWAITED; i++)
        f->awaited[f->awaited_count++] = g->ranks[peer[i]];
    g->c->failed = true;
}

static bool give_up(struct patience *p, int rank, int end, bool circle, double sign)
{
    struct signs *s = signs_of(p->g->c);
    s->gave_up = true;
    s->verdict = (struct letter){.waiting = true, .gave_up = true, .end = end, .circle = circle};
    s->verdict_sign = sign;
    s->through = rank;
    return false;
}

/* Told to end by mpirun, which does so when a rank has died: is one of this host's gone? If not, this rank goes
 * on, and may come to a checkpoint in the time that it has. */
static bool go_on_when_told(struct patience *p, struct signs *s, double now)
{
    if (!s->told_s) {
        s->told_s = now;
        if (local_lost(p->g->c, true) >= 0)
            return false;
        if (p->g->c->timeout > 0 && s->stood_s > p->g->c->timeout / 2)
            return false;
    }
    return now - s->told_s < TOLD_SHARE * s->grace_s;
}

/* How long a rank may give no sign of life. When Slurm ends a job, or has lost one of its ranks, SIGTERM comes
 * KillWait before the kill: a rank that is lost must be told of in that time. */
static double may_be_silent(const struct comm *c)
{
    return comm_told_to_end() ? fmin(c->timeout, TOLD_SILENT_S) : c->timeout;
}

/* False when the wait is over. */
static bool judge(struct patience *p)
{
    struct comm *c = p->g->c;
    struct signs *s = signs_of(c);
    double ask = ask_after(c), T = may_be_silent(c);
    if (T <= 0 || s->clock - p->start < ask)
        return true;
    int peer[ASKED_MOST], n = p->awaited(p->of, peer, ASKED_MOST);
    for (int i = 0; i < n; i++) {
        int rank = p->g->ranks[peer[i]];
        struct known *k = know(s, rank);
        if (!k->asked && s->clock - k->asked_at >= ask) {
            struct letter question = {.question = 1};
            k->asked = true;
            k->asked_at = s->clock;
            post_letter(s, rank, &question);
        }
        double heard = fmax(k->heard, p->start);
        if (s->clock - heard > T)
            return give_up(p, rank, rank, false, heard);
        double sign = k->circle ? fmax(k->sign, p->start) : k->sign;
        double limit = T + T / 16 + (k->circle ? p->moving_s : 0);
        if (k->heard >= p->start && k->waiting && (k->gave_up || s->clock - sign > limit))
            return give_up(p, rank, k->end, k->circle, sign);
    }
    return true;
}

/* A process that is gone needs no time-out, and some launchers kill the others two seconds later (Slurm's PMIx,
 * whatever srun is told): by then its neighbours have said which it was. */
static bool neighbour_gone(struct patience *p, double now)
{
    struct comm *c = p->g->c;
    struct signs *s = signs_of(c);
    if (c->timeout <= 0 || now - p->began_s < GONE_S || now - s->gone_s < GONE_S)
        return false;
    s->gone_s = now;
    int rank = local_lost(c, false);
    if (rank < 0)
        return false;
    read_letters(c, s);
    const struct known *k = know(s, rank);
    s->gone = !k->gave_up; /* else it ended because of another */
    give_up(p, rank, s->gone ? rank : k->end, k->gave_up && k->circle, s->clock);
    return true;
}

/* ---- waits ---- */

void mpi_wait_begin(struct patience *p, size_t bytes)
{
    struct comm *c = p->g->c;
    const struct mpi *m = c->state;
    struct signs *s = m->signs;
    double moving = (double)bytes / 1e9; /* seconds: a nap would stall a transfer that needs both sides */
    p->began_s = now_s();
    p->start = s->clock + fmin(p->began_s - s->last_s, TICK_S);
    p->spin_s = m->spin_s;
    p->yield_s = m->yield_s + moving;
    p->moving_s = (double)bytes / SLOW_BPS;
    s->wait = p;
    s->gave_up = s->gone = false;
}

bool mpi_still(struct patience *p)
{
    struct comm *c = p->g->c;
    struct signs *s = signs_of(c);
    double now = now_s(), waited = now - p->began_s;
    if (waited < p->spin_s)
        return true;
    look(c, s, now);
    if (now - s->judged_s >= tick(c)) {
        s->judged_s = now;
        if (comm_told_to_end() && s->grace_s > 0 && !go_on_when_told(p, s, now))
            return false;
        if (!judge(p) || neighbour_gone(p, now))
            return false;
    }
    if (waited < p->yield_s) {
        sched_yield();
        return true;
    }
    const struct mpi *m = c->state;
    double nap = waited / 8;
    nap = nap > m->nap_s ? m->nap_s : nap;
    nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    return true;
}

void mpi_wait_end(struct patience *p)
{
    struct signs *s = signs_of(p->g->c);
    s->wait = NULL;
    if (s->asker_count)
        tell_askers(s);
    s->asker_count = 0;
}

/* "peer 1 (rank 5), 2 (rank 6) and 3 more" */
static void name_peers(char *text, size_t room, const struct group *g, const int *peer, int count)
{
    size_t at = 0;
    for (int i = 0; i < count && i < NAMED_MOST; i++)
        at += (size_t)snprintf(text + at, room - at, "%s %d (rank %d)",
                               i           ? ","
                               : count > 1 ? "peers"
                                           : "peer",
                               peer[i], g->ranks[peer[i]]);
    if (count > NAMED_MOST)
        snprintf(text + at, room - at, " and %d more", count - NAMED_MOST);
}

static int lost_when_told(struct patience *p, const int *peer, int count)
{
    const struct group *g = p->g;
    struct comm *c = g->c;
    struct signs *s = signs_of(c);
    int gone = local_lost(c, true);
    c->fault.told = true;
    if (c->timeout > 0 && s->stood_s > c->timeout / 2) {
        mpi_blame(g, p->what, c->rank, peer, count);
        error(STATUS_ENV, "%s in group '%s': this rank stood still for %.1f s, and the launcher ended the job",
              p->what, g->name, s->stood_s);
    } else if (gone >= 0) {
        mpi_blame(g, p->what, gone, peer, count);
        error(STATUS_ENV, "%s in group '%s': the process of rank %d is gone, and the launcher ended the job",
              p->what, g->name, gone);
    } else {
        mpi_blame(g, p->what, -1, peer, count);
        error(STATUS_ENV, "%s in group '%s': the launcher ended the job", p->what, g->name);
    }
    c->fault.told = true;
    return -1;
}

int mpi_wait_lost(struct patience *p)
{
    const struct group *g = p->g;
    struct signs *s = signs_of(g->c);
    int peer[ASKED_MOST], n = p->awaited(p->of, peer, ASKED_MOST);
    char names[NAMED_MOST * 40 + 40], chain[96] = "";
    s->wait = NULL;
    if (!s->gave_up)
        return lost_when_told(p, peer, n);
    struct letter *v = &s->verdict;
    int by = s->through;
    tell_askers(s);
    if (v->circle)
        snprintf(chain, sizeof chain, ", which waits for this rank in turn");
    else if (v->end != by)
        snprintf(chain, sizeof chain, ": rank %d waits for rank %d, which does not answer", by, v->end);
    name_peers(names, sizeof names, g, peer, n);
    mpi_blame(g, p->what, v->circle ? -1 : v->end, peer, n);
    g->c->fault.gone = s->gone;
    if (s->gone)
        return error(STATUS_ENV, "%s in group '%s': the process of rank %d is gone", p->what, g->name, v->end);
    return error(STATUS_ENV, "%s in group '%s': no answer within %g s from %s%s", p->what, g->name,
                 may_be_silent(g->c), names, chain);
}

void mpi_linger(struct comm *c)
{
    struct signs *s = signs_of(c);
    double stay = c->fault.told ? TOLD_STAY_S : fmin(c->timeout / 4, ASK_MOST_S + 1), until = now_s() + stay;
    if (!s || !c->failed || c->fault.rank == c->rank)
        return;
    for (double now; (now = now_s()) < until;) {
        look(c, s, now);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
