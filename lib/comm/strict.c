/* SPDX-License-Identifier: MIT */
/* The kind `strict`: as mpi (or self, where no launcher started this process), with no more than NCCL gives to
 * device operations. What runs on it can run there.
 *
 *   rendezvous   before any data moves, both sides of each pair have come to the operation and told each other
 *                what they are about to do: nothing is sent ahead
 *   one order    a group's operations run one at a time, in the order in which this rank queued them
 *   one piece    what goes to a peer in one operation is one run of memory
 *   no tags      two ranks that do not do the same operation of a group, with the same bytes, are found out
 *
 * The host's operations are the base's own. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/over.h"

/* What two ranks tell each other. */
struct hello {
    char what[24];
    int64_t turn;             /* how many operations of the group these two have done together */
    uint64_t sends, receives; /* bytes, to and from the other */
};

struct meeting {
    int peer;
    struct hello mine, theirs;
};

struct strict_batch {
    struct comm_batch head; /* first */
    struct group *g;
    const char *what;
    struct comm_piece *list; /* sends, then receives */
    int sends, recvs;
    struct meeting *meetings;
    int count;
    struct comm_batch *hellos, *data; /* of the base; one after the other */
};

/* ---- hellos ---- */

static struct meeting *meeting_with(struct strict_batch *b, int peer)
{
    for (int i = 0; i < b->count; i++)
        if (b->meetings[i].peer == peer)
            return &b->meetings[i];
    struct meeting *m = &b->meetings[b->count++];
    *m = (struct meeting){.peer = peer};
    strncpy(m->mine.what, b->what, sizeof m->mine.what - 1);
    return m;
}

static int say_hello(struct strict_batch *b)
{
    struct group *g = b->g;
    if (!g->turns)
        g->turns = xcalloc((size_t)g->size, sizeof *g->turns);
    for (int i = 0; i < b->sends + b->recvs; i++) {
        struct meeting *m = meeting_with(b, b->list[i].peer);
        *(i < b->sends ? &m->mine.sends : &m->mine.receives) += b->list[i].bytes;
    }
    struct comm_piece *piece = xmalloc(2 * (size_t)b->count * sizeof *piece);
    for (int i = 0; i < b->count; i++) {
        struct meeting *m = &b->meetings[i];
        m->mine.turn = g->turns[m->peer]++;
        piece[i] = (struct comm_piece){m->peer, &m->mine, sizeof m->mine};
        piece[b->count + i] = (struct comm_piece){m->peer, &m->theirs, sizeof m->theirs};
    }
    b->hellos = over()->post_all(g, b->what, piece, b->count, piece + b->count, b->count, true);
    free(piece);
    return b->hellos ? 0 : -1;
}

/* A send of one side is a receive of the other; any other operation has one name. */
static bool same_operation(const char *mine, const char *theirs)
{
    const char *expect = strcmp(mine, "send") == 0 ? "receive" : strcmp(mine, "receive") == 0 ? "send" : mine;
    return strcmp(expect, theirs) == 0;
}

static int compare(const struct strict_batch *b)
{
    for (int i = 0; i < b->count; i++) {
        struct meeting *m = &b->meetings[i];
        const struct hello *mine = &m->mine, *theirs = &m->theirs;
        int rank = b->g->ranks[m->peer];
        m->theirs.what[sizeof m->theirs.what - 1] = '\0';
        if (!same_operation(mine->what, theirs->what) || mine->turn != theirs->turn)
            return error(STATUS_ENV,
                         "group '%s': operation %lld with rank %d is %s here, and there %s is operation %lld",
                         b->g->name, (long long)mine->turn, rank, mine->what, theirs->what,
                         (long long)theirs->turn);
        if (mine->sends != theirs->receives || mine->receives != theirs->sends)
            return error(
                STATUS_ENV,
                "%s in group '%s': to rank %d go %llu bytes, and %llu are expected there; from it come "
                "%llu, and %llu are expected here",
                mine->what, b->g->name, rank, (unsigned long long)mine->sends,
                (unsigned long long)theirs->receives, (unsigned long long)theirs->sends,
                (unsigned long long)mine->receives);
    }
    return 0;
}

/* ---- a group's messages ---- */

static void free_all(struct comm_batch *head)
{
    struct strict_batch *b = (struct strict_batch *)head;
    if (b->hellos)
        over()->free_all(b->hellos);
    if (b->data)
        over()->free_all(b->data);
    free(b->list);
    free(b->meetings);
    free(b);
}

static struct comm_batch *post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                   const struct comm_piece *recv, int recvs, bool device)
{
    struct strict_batch *b = xcalloc(1, sizeof *b);
    *b = (struct strict_batch){.g = g, .what = what, .sends = sends, .recvs = recvs};
    int rc;
    if (device) {
        size_t count = (size_t)sends + (size_t)recvs;
        b->list = xmalloc(count * sizeof *b->list);
        b->meetings = xmalloc(count * sizeof *b->meetings);
        for (int i = 0; i < sends + recvs; i++)
            b->list[i] = i < sends ? send[i] : recv[i - sends];
        rc = say_hello(b);
    } else {
        b->data = over()->post_all(g, what, send, sends, recv, recvs, false);
        rc = b->data ? 0 : -1;
    }
    if (rc == 0)
        return &b->head;
    free_all(&b->head);
    return NULL;
}

static int test_all(struct comm_batch *head)
{
    struct strict_batch *b = (struct strict_batch *)head;
    if (b->hellos) {
        int met = over()->test_all(b->hellos);
        if (met <= 0)
            return met;
        over()->free_all(b->hellos);
        b->hellos = NULL;
        b->head.arrived_s = now_s();
        TRY(compare(b));
        b->data = over()->post_all(b->g, b->what, b->list, b->sends, b->list + b->sends, b->recvs, true);
    }
    return b->data ? over()->test_all(b->data) : -1;
}

static int await_all(struct comm_batch *head)
{
    struct strict_batch *b = (struct strict_batch *)head;
    return over()->await_all(b->hellos ? b->hellos : b->data);
}

const struct comm_ops comm_strict = {
    .kind = "strict",
    .open = over_open,
    .close = over_close,
    .abort = over_abort,
    .post_all = post_all,
    .test_all = test_all,
    .await_all = await_all,
    .free_all = free_all,
    .one_at_a_time = true,
    .one_piece = true,
    .post = over_post,
    .done = over_done,
    .wait = over_wait,
};
