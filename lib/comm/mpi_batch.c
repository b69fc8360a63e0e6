/* SPDX-License-Identifier: MIT */
#include "comm/mpi_batch.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/mpi_message.h"
#include "comm/mpi_point.h"

struct comm_batch {
    struct group *g;
    const char *what;
    int count, recvs; /* requests; the receives come first */
    MPI_Request *request;
    MPI_Status *status;
    int *peer;
    size_t *bytes; /* of each message */
    size_t total;
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

static struct comm_batch *batch_new(struct group *g, const char *what, int messages)
{
    size_t most = (size_t)messages;
    struct comm_batch *b = xcalloc(1, sizeof *b);
    *b = (struct comm_batch){.g = g, .what = what};
    b->request = xmalloc(most * sizeof *b->request);
    b->status = xmalloc(most * sizeof *b->status);
    b->peer = xmalloc(most * sizeof *b->peer);
    b->bytes = xmalloc(most * sizeof *b->bytes);
    return b;
}

static void batch_free(struct comm_batch *b)
{
    free(b->request);
    free(b->status);
    free(b->peer);
    free(b->bytes);
    free(b);
}

static int post_message(struct comm_batch *b, bool receive, int peer, const struct comm_piece *list, int count)
{
    const struct mpi *m = b->g->c->state;
    int rank = b->g->ranks[peer], tag = COMM_TAGS + (int)(b->g->hash % COMM_TAGS), n = b->count;
    struct message s;
    b->peer[n] = peer;
    b->bytes[n] = 0;
    for (int i = 0; i < count; i++)
        b->bytes[n] += list[i].bytes;
    int code = mpi_describe(list, count, &s);
    if (!code && receive)
        code = MPI_Irecv(s.p, s.count, s.type, rank, tag, m->comm, &b->request[n]);
    else if (!code)
        code = MPI_Isend(s.p, s.count, s.type, rank, tag, m->comm, &b->request[n]);
    mpi_forget(&s);
    if (code)
        return mpi_failed(code, b->what);
    b->total += b->bytes[n];
    b->count++;
    b->recvs += receive;
    return 0;
}

/* One side of a batch. */
static int post_side(struct comm_batch *b, bool receive, const struct comm_piece *list, int count)
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
                                const struct comm_piece *recv, int recvs)
{
    struct comm_batch *b = batch_new(g, what, sends + recvs);
    if (post_side(b, true, recv, recvs) == 0 && post_side(b, false, send, sends) == 0)
        return b;
    batch_free(b);
    return NULL;
}

/* The peers of unfinished messages, each once. */
static int awaited(struct comm_batch *b)
{
    int n = 0, *peer = xmalloc((size_t)b->count * sizeof *peer);
    bool *seen = xcalloc((size_t)b->g->size, sizeof *seen);
    for (int i = 0; i < b->count; i++) {
        int flag = 0;
        if (MPI_Test(&b->request[i], &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && flag)
            continue;
        if (!seen[b->peer[i]])
            peer[n++] = b->peer[i];
        seen[b->peer[i]] = true;
    }
    int rc = mpi_no_answer(b->g, b->what, peer, n);
    free(seen);
    free(peer);
    return rc;
}

static int batch_failed(struct comm_batch *b, int code)
{
    if (code != MPI_ERR_IN_STATUS)
        return mpi_failed(code, b->what);
    for (int i = 0; i < b->count; i++) {
        int e = b->status[i].MPI_ERROR, p = b->peer[i];
        if (e == MPI_SUCCESS || e == MPI_ERR_PENDING)
            continue;
        mpi_failed(e, b->what);
        return error_prefix("group '%s', peer %d (rank %d)", b->g->name, p, b->g->ranks[p]);
    }
    return mpi_failed(code, b->what);
}

static int finish(struct comm_batch *b)
{
    struct comm *c = b->g->c;
    struct patience p = mpi_patience(c, b->total);
    for (int flag = 0;;) {
        int code = MPI_Testall(b->count, b->request, &flag, b->status);
        if (code)
            return batch_failed(b, code);
        if (flag)
            break;
        mpi_serve(c);
        if (!mpi_still(&p))
            return awaited(b);
    }
    for (int i = 0; i < b->recvs; i++) {
        if (mpi_check_size(&b->status[i], b->bytes[i], b->what, b->g, b->peer[i]))
            return -1;
    }
    return 0;
}

int mpi_wait_all(struct comm_batch *b)
{
    int rc = finish(b);
    batch_free(b);
    return rc;
}
