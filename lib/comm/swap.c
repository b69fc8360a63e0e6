/* SPDX-License-Identifier: MIT */
#include "comm/swap.h"

#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"
#include "comm/ops.h"

/* A swap of messages as work of the host. */
struct swap {
    struct host_work work; /* first */
    struct group *g;
    int64_t turn;            /* its number among the group's */
    struct comm_piece *list; /* sends, then receives: those that travel */
    int sends, recvs;
    struct comm_batch *batch; /* NULL: not begun */
    double queued_s;
    struct comm_times *times;
};

/* Pieces that touch (or are the same) share a range: a GPU stages each with one copy. Returns how many. */
static int find_runs(const struct comm_piece *list, int count, enum host_access access,
                     struct host_range *ranges)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        char *p = list[i].p;
        struct host_range *r = n ? &ranges[n - 1] : NULL;
        if (r && p >= (char *)r->p && p <= (char *)r->p + r->bytes)
            r->bytes = (size_t)max64((int64_t)r->bytes, p - (char *)r->p + (int64_t)list[i].bytes);
        else
            ranges[n++] = (struct host_range){.p = p, .bytes = list[i].bytes, .access = access};
    }
    return n;
}

/* Makes the pieces point to where the host finds them. */
static void find_on_host(struct swap *w)
{
    const struct host_range *r = w->work.ranges;
    for (int i = 0; i < w->sends + w->recvs; i++) {
        char *p = w->list[i].p;
        enum host_access access = i < w->sends ? HOST_READ : HOST_WRITE;
        while (r->access != access || p < (char *)r->p || p >= (char *)r->p + r->bytes)
            r++;
        w->list[i].p = (char *)r->host + (p - (char *)r->p);
    }
}

/* ---- the work ---- */

static int move(struct host_work *work)
{
    struct swap *w = (struct swap *)work;
    const struct comm_ops *ops = w->g->c->ops;
    if (!w->batch) {
        if (ops->one_at_a_time && w->g->ended != w->turn)
            return 0;
        find_on_host(w);
        const struct comm_piece *recv = w->list + w->sends;
        w->batch = ops->post_all(w->g, w->work.what, w->list, w->sends, recv, w->recvs, true);
        if (!w->batch)
            return -1;
    }
    return ops->test_all(w->batch);
}

static int await(struct host_work *work)
{
    struct swap *w = (struct swap *)work;
    struct comm *c = w->g->c;
    if (w->batch)
        return c->ops->await_all(w->batch);
    /* Its turn comes when an earlier one of the group, in another stream, is done. */
    if (c->timeout > 0 && now_s() - w->queued_s > c->timeout)
        return error(STATUS_ENV, "%s in group '%s': an operation that was queued before it never began",
                     w->work.what, w->g->name);
    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    return 0;
}

static void release(struct host_work *work)
{
    struct swap *w = (struct swap *)work;
    w->g->ended = max64(w->g->ended, w->turn + 1);
    if (w->times)
        *w->times = (struct comm_times){w->batch ? w->batch->arrived_s : 0, now_s()};
    if (w->batch)
        w->g->c->ops->free_all(w->batch);
    free(w->work.ranges);
    free(w->list);
    free(w);
}

/* ---- queueing ---- */

/* Copies the pieces for oneself, whose two lists may be cut differently. */
static int copy_own(struct group *g, struct stream *stream, const char *what, const struct comm_piece *send,
                    int sends, const struct comm_piece *recv, int recvs)
{
    size_t s_at = 0, r_at = 0;
    int s = 0, r = 0;
    for (;;) {
        while (s < sends && (send[s].peer != g->me || s_at == send[s].bytes))
            s++, s_at = 0;
        while (r < recvs && (recv[r].peer != g->me || r_at == recv[r].bytes))
            r++, r_at = 0;
        if (s == sends || r == recvs)
            break;
        size_t n = (size_t)min64((int64_t)(send[s].bytes - s_at), (int64_t)(recv[r].bytes - r_at));
        const char *from = (const char *)send[s].p + s_at;
        char *to = (char *)recv[r].p + r_at;
        if (to != from)
            g->c->be->copy(stream, to, from, n);
        s_at += n;
        r_at += n;
    }
    if (s < sends || r < recvs)
        return error(STATUS_ENV, "%s in group '%s': peer %d sends itself another size than it receives", what,
                     g->name, g->me);
    return 0;
}

/* For kinds that want one piece a peer: those that touch become one. Returns how many are left, or -1. */
static int joined(const struct group *g, const char *what, struct comm_piece *list, int count)
{
    struct comm_piece **of = xcalloc((size_t)g->size, sizeof *of); /* the peer's */
    int n = 0, r = 0;
    for (int i = 0; i < count && r == 0; i++) {
        struct comm_piece next = list[i], *before = of[next.peer];
        if (!before) {
            list[n] = next;
            of[next.peer] = &list[n++];
        } else if ((char *)before->p + before->bytes == next.p) {
            before->bytes += next.bytes;
        } else {
            r = error(STATUS_ENV,
                      "%s in group '%s': communication '%s' takes one piece a peer, and peer %d has "
                      "several that do not touch",
                      what, g->name, g->c->ops->kind, next.peer);
        }
    }
    free(of);
    return r < 0 ? -1 : n;
}

/* The pieces that must travel. Returns their number, or -1 when a peer is not of the group. */
static int travelling(const struct group *g, const char *what, const struct comm_piece *list, int count,
                      struct comm_piece *out)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (list[i].peer < 0 || list[i].peer >= g->size)
            return error(STATUS_ENV, "%s in group '%s': there is no peer %d", what, g->name, list[i].peer);
        if (list[i].peer != g->me && list[i].bytes)
            out[n++] = list[i];
    }
    return g->c->ops->one_piece ? joined(g, what, out, n) : n;
}

/* 1: w is queued; 0: something else is, or nothing; -1. */
static int queue(struct swap *w, struct stream *s, const struct comm_piece *send, int sends,
                 const struct comm_piece *recv, int recvs)
{
    struct group *g = w->g;
    w->sends = travelling(g, w->work.what, send, sends, w->list);
    if (w->sends < 0)
        return -1;
    w->recvs = travelling(g, w->work.what, recv, recvs, w->list + w->sends);
    if (w->recvs < 0 || copy_own(g, s, w->work.what, send, sends, recv, recvs) < 0)
        return -1;
    if (w->sends + w->recvs == 0)
        return 0;
    if (g->c->ops->swap)
        return g->c->ops->swap(g, s, w->work.what, w->list, w->sends, w->list + w->sends, w->recvs);
    struct host_range *ranges = w->work.ranges = xmalloc((size_t)(w->sends + w->recvs) * sizeof *ranges);
    w->work.count = find_runs(w->list, w->sends, HOST_READ, ranges);
    w->work.count += find_runs(w->list + w->sends, w->recvs, HOST_WRITE, ranges + w->work.count);
    w->turn = g->queued++;
    w->queued_s = now_s();
    g->c->be->host_work(s, &w->work);
    return 1;
}

int swap_queue(struct group *g, struct stream *s, const char *what, const struct comm_piece *send, int sends,
               const struct comm_piece *recv, int recvs, struct comm_times *times)
{
    struct swap *w = xmalloc(sizeof *w);
    *w = (struct swap){.work = {what, g->name, .start = move, .move = move, .await = await, .release = release},
                       .g = g,
                       .times = times};
    if (times)
        *times = (struct comm_times){0}; /* not known, unless the host moves them */
    w->list = xmalloc(((size_t)sends + (size_t)recvs + 1) * sizeof *w->list);
    int r = queue(w, s, send, sends, recv, recvs);
    if (r <= 0) {
        free(w->list);
        free(w);
    }
    return r < 0 ? -1 : 0;
}
