/* SPDX-License-Identifier: MIT */
#include "comm/mpi_batch.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/mpi_alive.h"
#include "comm/mpi_message.h"
#include "comm/mpi_point.h"

/* One message to or from each peer that has pieces, the receives first. A receive starts when a probe has found
 * its message and the size is right: Open MPI 4.1 writes past the end of a buffer that is too small when it
 * fetches a message from another process's memory, before it reports that. */
struct mpi_batch {
    struct comm_batch head; /* first */
    struct group *g;
    MPI_Comm comm;
    struct patience patience;
    bool waiting;
    const char *what;
    int count, recvs;
    MPI_Request *request; /* MPI_REQUEST_NULL: a receive without a message yet */
    MPI_Status *status;
    struct message *to; /* of each receive */
    int *peer;
    size_t *bytes; /* of each message */
    size_t total;
    int *unmatched, unmatched_count; /* the receives without a message */
};

/* Where piece `at` of a list stands among the messages of its side. */
struct turn {
    int turn, at;
};

static int by_turn(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    return x->turn != y->turn ? (x->turn < y->turn ? -1 : 1) : x->at < y->at ? -1 : 1;
}

/* A list sorted by peer, each peer's pieces in list order. Peers are taken in turn from this one's neighbour
 * on, so that they do not all start with the same. */
static struct comm_piece *in_turns(const struct group *g, bool receive, const struct comm_piece *list,
                                   int count)
{
    struct comm_piece *sorted = xmalloc((size_t)count * sizeof *sorted);
    struct turn *turns = xmalloc((size_t)count * sizeof *turns);
    for (int i = 0; i < count; i++) {
        int ahead = receive ? g->me - list[i].peer : list[i].peer - g->me;
        turns[i] = (struct turn){ahead < 0 ? ahead + g->size : ahead, i};
    }
    qsort(turns, (size_t)count, sizeof *turns, by_turn);
    for (int i = 0; i < count; i++)
        sorted[i] = list[turns[i].at];
    free(turns);
    return sorted;
}

static struct mpi_batch *batch_new(struct group *g, const char *what, int messages, bool device)
{
    size_t most = (size_t)messages;
    const struct mpi *m = g->c->state;
    struct mpi_batch *b = xcalloc(1, sizeof *b);
    *b = (struct mpi_batch){.g = g, .what = what, .comm = device ? m->device : m->comm};
    b->request = xmalloc(most * sizeof *b->request);
    b->status = xmalloc(most * sizeof *b->status);
    b->to = xmalloc(most * sizeof *b->to);
    b->peer = xmalloc(most * sizeof *b->peer);
    b->bytes = xmalloc(most * sizeof *b->bytes);
    b->unmatched = xmalloc(most * sizeof *b->unmatched);
    return b;
}

void mpi_free_all(struct comm_batch *head)
{
    struct mpi_batch *b = (struct mpi_batch *)head;
    if (b->waiting)
        mpi_wait_end(&b->patience);
    for (int i = 0; i < b->unmatched_count; i++)
        mpi_forget(&b->to[b->unmatched[i]]);
    free(b->request);
    free(b->status);
    free(b->to);
    free(b->peer);
    free(b->bytes);
    free(b->unmatched);
    free(b);
}

static int tag_of(const struct group *g)
{
    return COMM_TAGS + (int)(g->hash % COMM_TAGS);
}

static int post_message(struct mpi_batch *b, bool receive, int peer, const struct comm_piece *list, int count)
{
    int n = b->count;
    struct message s;
    b->peer[n] = peer;
    b->bytes[n] = 0;
    for (int i = 0; i < count; i++)
        b->bytes[n] += list[i].bytes;
    int code = mpi_describe(list, count, &s);
    b->request[n] = MPI_REQUEST_NULL;
    if (!code && receive) {
        b->to[n] = s;
        b->unmatched[b->unmatched_count++] = n;
    } else if (!code) {
        code = MPI_Isend(s.p, s.count, s.type, b->g->ranks[peer], tag_of(b->g), b->comm, &b->request[n]);
        mpi_forget(&s);
    }
    if (code)
        return mpi_failed(code, b->what);
    b->total += b->bytes[n];
    b->count++;
    b->recvs += receive;
    return 0;
}

/* One side of a batch. */
static int post_side(struct mpi_batch *b, bool receive, const struct comm_piece *list, int count)
{
    int rc = 0;
    struct comm_piece *sorted = in_turns(b->g, receive, list, count);
    for (int i = 0, next; i < count && rc == 0; i = next) {
        for (next = i + 1; next < count && sorted[next].peer == sorted[i].peer;)
            next++;
        rc = post_message(b, receive, sorted[i].peer, sorted + i, next - i);
    }
    free(sorted);
    return rc;
}

struct comm_batch *mpi_post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                const struct comm_piece *recv, int recvs, bool device)
{
    struct mpi_batch *b = batch_new(g, what, sends + recvs, device);
    if (post_side(b, true, recv, recvs) == 0 && post_side(b, false, send, sends) == 0)
        return &b->head;
    mpi_free_all(&b->head);
    return NULL;
}

/* Starts the receives whose messages are there. */
static int match(struct mpi_batch *b)
{
    int left = 0;
    for (int k = 0; k < b->unmatched_count; k++) {
        int i = b->unmatched[k], peer = b->peer[i], there = 0;
        MPI_Message message;
        MPI_Status status;
        int code = MPI_Improbe(b->g->ranks[peer], tag_of(b->g), b->comm, &there, &message, &status);
        if (code)
            return mpi_failed(code, b->what);
        if (!there) {
            b->unmatched[left++] = i;
            continue;
        }
        TRY(mpi_check_size(&status, b->bytes[i], b->what, b->g, peer));
        struct message *to = &b->to[i];
        code = MPI_Imrecv(to->p, to->count, to->type, &message, &b->request[i]);
        mpi_forget(to);
        if (code)
            return mpi_failed(code, b->what);
    }
    b->unmatched_count = left;
    if (!left)
        b->head.arrived_s = now_s();
    return 0;
}

/* Peers of unfinished messages. A peer has one of each direction at most; the receives come first. */
static int awaited(const void *of, int *peer, int most)
{
    const struct mpi_batch *b = of;
    int n = 0;
    for (int i = 0; i < b->unmatched_count && n < most; i++)
        peer[n++] = b->peer[b->unmatched[i]];
    for (int i = 0; i < b->count && n < most; i++) {
        int flag = 0;
        if (!MPI_Request_get_status(b->request[i], &flag, MPI_STATUS_IGNORE) && flag)
            continue;
        bool seen = false;
        for (int k = 0; k < n && !seen; k++)
            seen = peer[k] == b->peer[i];
        if (!seen)
            peer[n++] = b->peer[i];
    }
    return n;
}

static int batch_failed(struct mpi_batch *b, int code)
{
    if (code != MPI_ERR_IN_STATUS)
        return mpi_failed(code, b->what);
    for (int i = 0; i < b->count; i++) {
        int e = b->status[i].MPI_ERROR, p = b->peer[i];
        if (e == MPI_SUCCESS || e == MPI_ERR_PENDING)
            continue;
        mpi_blame(b->g, b->what, b->g->ranks[p], &p, 1);
        mpi_failed(e, b->what);
        return error_prefix("group '%s', peer %d (rank %d)", b->g->name, p, b->g->ranks[p]);
    }
    return mpi_failed(code, b->what);
}

int mpi_test_all(struct comm_batch *head)
{
    struct mpi_batch *b = (struct mpi_batch *)head;
    int flag = 0, code = 0;
    mpi_serve(b->g->c);
    if (b->unmatched_count)
        TRY(match(b));
    if (!b->unmatched_count)
        code = MPI_Testall(b->count, b->request, &flag, b->status);
    return code ? batch_failed(b, code) : flag;
}

int mpi_await_all(struct comm_batch *head)
{
    struct mpi_batch *b = (struct mpi_batch *)head;
    if (!b->waiting) {
        b->patience = (struct patience){.g = b->g, .what = b->what, .awaited = awaited, .of = b};
        mpi_wait_begin(&b->patience, b->total);
        b->waiting = true;
    }
    if (mpi_still(&b->patience))
        return 0;
    b->waiting = false;
    return mpi_wait_lost(&b->patience);
}
