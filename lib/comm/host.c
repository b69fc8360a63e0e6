/* SPDX-License-Identifier: MIT */
/* Along a tree: whatever the number of peers n, none sends or receives more than 15·log16(n) messages, and
 * the way from any to the top is log16(n) long. A tree of more and shorter steps has fewer messages and is no
 * faster: a step costs a latency, and on a host with more ranks than processors the time until the one that
 * is awaited gets its turn.
 *
 * A peer's parent is its number with the last hexadecimal digit that is not 0 made 0. Below 0 are 1 2 … f, 10
 * 20 … f0, 100 …; below 20 are 21 22 … 2f; below 21 none. So peer p and all below it are one run, p … p +
 * span - 1: what a gather moves is one piece of memory, a reduction combines in the order of the peers, and
 * most messages are between neighbours, which are likely on one host. */
#include "comm/host.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/ops.h"

enum { BASE = 16, CHILDREN_MOST = (BASE - 1) * 8 }; /* an int has eight digits */

/* The value of the last digit of p that is not 0; for 0 the first power of the base that is n or more. */
static int64_t place_of(int p, int n)
{
    int64_t place = 1;
    while (p ? p / place % BASE == 0 : place < n)
        place *= BASE;
    return place;
}

static int parent_of(int p, int n)
{
    int64_t place = place_of(p, n);
    return (int)(p - p / place % BASE * place);
}

/* How many peers the run of p and all below it has. */
static int span_of(int p, int n)
{
    return (int)min64(place_of(p, n), n - p);
}

/* The peers whose parent is p, in order. */
static int children_of(int p, int n, int child[static CHILDREN_MOST])
{
    int count = 0;
    int64_t end = place_of(p, n);
    for (int64_t place = 1; place < end; place *= BASE)
        for (int digit = 1; digit < BASE && p + digit * place < n; digit++)
            child[count++] = (int)(p + digit * place);
    return count;
}

static int travel(struct group *g, const char *what, const struct comm_piece *send, int sends,
                  const struct comm_piece *recv, int recvs)
{
    const struct comm_ops *ops = g->c->ops;
    if (sends + recvs == 0)
        return 0;
    struct comm_batch *b = ops->post_all(g, what, send, sends, recv, recvs);
    return b ? ops->wait_all(b) : -1;
}

static int send_up(struct group *g, const char *what, void *p, size_t bytes)
{
    if (g->me == 0)
        return 0;
    return travel(g, what, &(struct comm_piece){parent_of(g->me, g->size), p, bytes}, 1, NULL, 0);
}

static int reduce(struct group *g, const char *what, void *p, size_t bytes, host_combine *combine)
{
    if (bytes == 0)
        return 0;
    int child[CHILDREN_MOST], count = children_of(g->me, g->size, child);
    char *in = xmalloc((size_t)count * bytes);
    struct comm_piece recv[CHILDREN_MOST];
    for (int i = 0; i < count; i++)
        recv[i] = (struct comm_piece){child[i], in + (size_t)i * bytes, bytes};
    int rc = travel(g, what, NULL, 0, recv, count);
    for (int i = 0; i < count && rc == 0; i++)
        combine(p, in + (size_t)i * bytes, bytes);
    free(in);
    return rc ? rc : send_up(g, what, p, bytes);
}

/* The tree of a root that is not 0 has everyone turned by it: number 0 of the tree is the root. */
static int broadcast(struct group *g, const char *what, int root, void *p, size_t bytes)
{
    if (bytes == 0)
        return 0;
    int n = g->size, me = (int)(((int64_t)g->me - root + n) % n);
    int child[CHILDREN_MOST], count = children_of(me, n, child);
    struct comm_piece send[CHILDREN_MOST];
    if (me) {
        int from = (int)(((int64_t)parent_of(me, n) + root) % n);
        TRY(travel(g, what, NULL, 0, &(struct comm_piece){from, p, bytes}, 1));
    }
    for (int i = 0; i < count; i++)
        send[i] = (struct comm_piece){(int)(((int64_t)child[i] + root) % n), p, bytes};
    return travel(g, what, send, count, NULL, 0);
}

int host_reduce(struct group *g, void *p, size_t bytes, host_combine *combine)
{
    return reduce(g, "host_reduce", p, bytes, combine);
}

int host_all_reduce(struct group *g, void *p, size_t bytes, host_combine *combine)
{
    TRY(reduce(g, "host_all_reduce", p, bytes, combine));
    return broadcast(g, "host_all_reduce", 0, p, bytes);
}

int host_broadcast(struct group *g, int root, void *p, size_t bytes)
{
    if (root < 0 || root >= g->size)
        return error(STATUS_ENV, "host_broadcast in group '%s': there is no peer %d", g->name, root);
    return broadcast(g, "host_broadcast", root, p, bytes);
}

int host_gather(struct group *g, const void *mine, size_t bytes, void *all)
{
    const char *what = "host_gather";
    if (bytes == 0)
        return 0;
    int child[CHILDREN_MOST], count = children_of(g->me, g->size, child);
    size_t room = (size_t)span_of(g->me, g->size) * bytes;
    char *run = g->me == 0 ? all : xmalloc(room);
    memcpy(run, mine, bytes);
    struct comm_piece recv[CHILDREN_MOST];
    for (int i = 0; i < count; i++) {
        size_t skip = (size_t)(child[i] - g->me) * bytes, more = (size_t)span_of(child[i], g->size) * bytes;
        recv[i] = (struct comm_piece){child[i], run + skip, more};
    }
    int rc = travel(g, what, NULL, 0, recv, count);
    if (rc == 0)
        rc = send_up(g, what, run, room);
    if (g->me != 0)
        free(run);
    return rc;
}

static void larger(void *into, const void *from, size_t bytes)
{
    int64_t *a = into;
    const int64_t *b = from;
    *a = max64(*a, *b);
}

int host_max(struct group *g, int64_t *value)
{
    TRY(reduce(g, "host_max", value, sizeof *value, larger));
    return broadcast(g, "host_max", 0, value, sizeof *value);
}
