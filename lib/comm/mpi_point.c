/* SPDX-License-Identifier: MIT */
/* Receives are not posted at once: they wait in a list until a probe finds their message. So the wait for a
 * message and its transfer can be told apart, and whoever waits for anything serves the whole list, lest two
 * ranks wait for each other's receives. */
#include "comm/mpi_point.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/mpi_alive.h"
#include "comm/mpi_message.h"

struct mpi_request {
    struct comm_request base;
    MPI_Request handle;
    bool matched;             /* sent, or a message was found for it */
    bool complete;            /* done, or failed */
    double arrived;           /* when the message was found */
    char *why;                /* it failed; to be said by wait() */
    struct mpi_request *next; /* in the list of receives without a message */
};

static const char *name_of(const struct comm_request *r, char buf[static 48])
{
    snprintf(buf, 48, "%s (tag %d)", r->receive ? "receive" : "send", r->tag);
    return buf;
}

/* The request failed; the error waits for wait(). */
static void keep_error(struct mpi_request *r)
{
    r->complete = true;
    r->why = xstrdup(error_text());
}

int mpi_check_size(const MPI_Status *status, size_t expect, const char *what, const struct group *g, int peer)
{
    MPI_Count got = 0;
    MPI_Get_elements_x(status, MPI_BYTE, &got);
    if (got >= 0 && (size_t)got == expect)
        return 0;
    mpi_blame(g, what, -1, &peer, 1);
    return error(STATUS_ENV, "%s in group '%s': peer %d (rank %d) sent %lld bytes; %zu were expected", what,
                 g->name, peer, g->ranks[peer], (long long)got, expect);
}

/* A message of another size is left alone: Open MPI 4.1 writes past the end before it reports that. */
static int start_receive(struct mpi_request *r, MPI_Message *message, const MPI_Status *status)
{
    struct comm_request *b = &r->base;
    struct message in;
    char name[48];
    if (mpi_check_size(status, b->bytes, name_of(b, name), b->g, b->peer))
        return -1;
    int code = mpi_describe(&(struct comm_piece){0, b->host, b->bytes}, 1, &in);
    if (!code) {
        code = MPI_Imrecv(in.p, in.count, in.type, message, &r->handle);
        mpi_forget(&in);
    }
    return code ? mpi_failed(code, name_of(b, name)) : 0;
}

static bool same_source(const struct comm_request *a, const struct comm_request *b)
{
    return a->tag == b->tag && a->g->ranks[a->peer] == b->g->ranks[b->peer];
}

void mpi_serve(struct comm *c)
{
    struct mpi *m = c->state;
    for (struct mpi_request **at = &m->waiting; *at;) {
        const struct comm_request *b = &(*at)->base;
        int there = 0;
        MPI_Message message;
        MPI_Status status;
        int code = MPI_Improbe(b->g->ranks[b->peer], b->tag, m->comm, &there, &message, &status);
        if (!code && !there) {
            at = &(*at)->next;
            continue;
        }
        /* An earlier receive of the same source and tag, looked at a moment too soon, comes first. */
        for (at = &m->waiting; !same_source(&(*at)->base, b);)
            at = &(*at)->next;
        struct mpi_request *r = *at;
        *at = r->next;
        r->matched = true;
        r->arrived = now_s();
        if (code ? mpi_failed(code, "looking for a message") : start_receive(r, &message, &status))
            keep_error(r);
    }
}

struct comm_request *mpi_post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes)
{
    struct mpi *m = g->c->state;
    struct mpi_request *r = xcalloc(1, sizeof *r);
    r->base =
        (struct comm_request){.g = g, .receive = receive, .peer = peer, .tag = tag, .bytes = bytes, .host = p};
    r->handle = MPI_REQUEST_NULL;
    if (receive) {
        struct mpi_request **at = &m->waiting;
        while (*at)
            at = &(*at)->next;
        *at = r;
        return &r->base;
    }
    r->matched = true;
    struct message out;
    int code = mpi_describe(&(struct comm_piece){0, p, bytes}, 1, &out);
    if (!code) {
        code = MPI_Isend(out.p, out.count, out.type, g->ranks[peer], tag, m->comm, &r->handle);
        mpi_forget(&out);
    }
    if (!code)
        return &r->base;
    mpi_failed(code, "send");
    free(r);
    return NULL;
}

/* Moves the request on as far as it goes now. */
static void move(struct mpi_request *r)
{
    struct comm_request *b = &r->base;
    char name[48];
    mpi_serve(b->g->c);
    if (!r->matched || r->complete)
        return;
    int flag = 0;
    int code = MPI_Test(&r->handle, &flag, MPI_STATUS_IGNORE);
    if (!code && !flag)
        return;
    r->complete = true;
    if (code) {
        mpi_blame(b->g, name_of(b, name), b->g->ranks[b->peer], &b->peer, 1);
        mpi_failed(code, name_of(b, name));
        error_prefix("group '%s', peer %d (rank %d)", b->g->name, b->peer, b->g->ranks[b->peer]);
        keep_error(r);
    }
}

bool mpi_done(struct comm_request *base)
{
    struct mpi_request *r = (struct mpi_request *)base;
    move(r);
    mpi_answer(base->g->c);
    return r->complete;
}

/* The caller is about to free a request that found no message. */
static void unlist(struct mpi *m, const struct mpi_request *r)
{
    for (struct mpi_request **at = &m->waiting; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            return;
        }
    }
}

static int awaited(const void *of, int *peer, int most)
{
    *peer = ((const struct comm_request *)of)->peer;
    return 1;
}

int mpi_wait(struct comm_request *base, double *idle_s)
{
    struct mpi_request *r = (struct mpi_request *)base;
    struct comm *c = base->g->c;
    double start = now_s();
    char name[48];
    struct patience p = {.g = base->g, .what = name_of(base, name), .awaited = awaited, .of = base};
    mpi_wait_begin(&p, 0);
    bool moving = false, lost = false;
    for (move(r); !r->complete && !lost; move(r)) {
        if (r->matched && !moving) {
            moving = true;
            mpi_wait_begin(&p, base->bytes);
        }
        lost = !mpi_still(&p);
        if (!lost && comm_poll(c) < 0) {
            unlist(c->state, r);
            mpi_wait_end(&p);
            return -1;
        }
    }
    if (idle_s && base->receive && r->arrived > start)
        *idle_s += r->arrived - start;
    if (!r->complete) {
        unlist(c->state, r);
        return mpi_wait_lost(&p);
    }
    mpi_wait_end(&p);
    if (!r->why)
        return 0;
    error(STATUS_ENV, "%s", r->why);
    free(r->why);
    return -1;
}
