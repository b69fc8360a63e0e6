/* SPDX-License-Identifier: MIT */
#include "comm/host.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/ops.h"
#include "comm/tree.h"

static int travel(struct group *g, const char *what, const struct comm_piece *send, int sends,
                  const struct comm_piece *recv, int recvs)
{
    const struct comm_ops *ops = g->c->ops;
    if (sends + recvs == 0)
        return 0;
    struct comm_batch *b = ops->post_all(g, what, send, sends, recv, recvs, false);
    if (!b)
        return -1;
    int done = 0;
    while (done == 0 && (done = ops->test_all(b)) == 0)
        done = ops->await_all(b) < 0 || comm_poll(g->c) < 0 ? -1 : 0;
    ops->free_all(b);
    return done < 0 ? -1 : 0;
}

static int send_up(struct group *g, const char *what, void *p, size_t bytes)
{
    if (g->me == 0)
        return 0;
    return travel(g, what, &(struct comm_piece){tree_parent(g->me, g->size), p, bytes}, 1, NULL, 0);
}

static int reduce(struct group *g, const char *what, void *p, size_t bytes, host_combine *combine)
{
    if (bytes == 0)
        return 0;
    int child[TREE_CHILDREN], count = tree_children(g->me, g->size, child);
    char *in = xmalloc((size_t)count * bytes);
    struct comm_piece recv[TREE_CHILDREN];
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
    int child[TREE_CHILDREN], count = tree_children(me, n, child);
    struct comm_piece send[TREE_CHILDREN];
    if (me) {
        int from = (int)(((int64_t)tree_parent(me, n) + root) % n);
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
    int child[TREE_CHILDREN], count = tree_children(g->me, g->size, child);
    size_t room = (size_t)tree_span(g->me, g->size) * bytes;
    char *run = g->me == 0 ? all : xmalloc(room);
    memcpy(run, mine, bytes);
    struct comm_piece recv[TREE_CHILDREN];
    for (int i = 0; i < count; i++) {
        size_t skip = (size_t)(child[i] - g->me) * bytes, more = (size_t)tree_span(child[i], g->size) * bytes;
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
