/* SPDX-License-Identifier: MIT */
/* Device operations in terms of messages.
 *
 * Sums: the other peers' pieces land in scratch in peer order, and the backend's `add` sums them and one's own,
 * which it reads in its turn from where it is. The order is the same whoever owns the piece, so all ranks get
 * the same bits. */
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "comm/ops.h"
#include "comm/swap.h"
#include "comm/tree.h"

/* Below this an all-reduce gathers everything in one step; above, parts are summed and then gathered. */
#define SMALL_REDUCE (64 << 10)

/* A list of one piece for each peer, evenly laid out: peer p's is [base + p·step, … + bytes). */
static void spread(const struct group *g, struct comm_piece *list, const void *base, size_t step, size_t bytes)
{
    for (int p = 0; p < g->size; p++)
        list[p] = (struct comm_piece){p, (char *)base + (size_t)p * step, bytes};
}

/* The pieces to send, and then those to receive. */
static struct comm_piece *lists_new(const struct group *g)
{
    return xmalloc(2 * (size_t)g->size * sizeof(struct comm_piece));
}

/* ---- the collectives ---- */

int exchange(struct group *g, struct stream *s, const struct comm_piece *send, int sends,
             const struct comm_piece *recv, int recvs)
{
    return swap_queue(g, s, "exchange", send, sends, recv, recvs, NULL);
}

int all_gather(struct group *g, struct stream *s, const void *part, void *whole, size_t bytes)
{
    if (g->c->ops->all_gather && g->size > 1 && bytes)
        return g->c->ops->all_gather(g, s, part, whole, bytes);
    struct comm_piece *list = lists_new(g);
    spread(g, list, part, 0, bytes);
    spread(g, list + g->size, whole, bytes, bytes);
    int rc = swap_queue(g, s, "all_gather", list, g->size, list + g->size, g->size, NULL);
    free(list);
    return rc;
}

/* What sums in this stream use; NULL with error() set. */
static const struct comm_scratch *scratch_of(struct comm *c, const struct stream *s)
{
    if (c->beside.p && c->beside.s == s)
        return &c->beside;
    if (!c->scratch.p) {
        c->own_scratch = c->be->alloc(LEAST_SCRATCH);
        if (!c->own_scratch)
            return NULL;
        comm_set_scratch(c, c->own_scratch, LEAST_SCRATCH);
    }
    return &c->scratch;
}

/* Elements of a sum that fit scratch once for each of the others; 0 with error() set. */
static int64_t chunk_size(struct group *g, const struct comm_scratch *x, const char *what, enum type type)
{
    if (!x)
        return 0;
    /* Whole cache lines where there is room, so that parts start aligned. */
    int64_t n = (int64_t)(x->bytes / type_bytes(type)) / (g->size - 1);
    int64_t line = 64 / (int64_t)type_bytes(type);
    if (n > line)
        n -= n % line;
    if (n == 0)
        error(STATUS_ENV, "%s in group '%s': %zu bytes of scratch are too few for %d peers", what, g->name,
              x->bytes, g->size);
    return n;
}

/* y = Σ over peers of count elements: `list` has what each is sent, this rank's own part among it, and room for
 * what is received, which goes to scratch. */
static int swap_and_sum(struct group *g, struct stream *s, const char *what, struct comm_piece *list,
                        const struct comm_scratch *x, enum type type, void *y, int64_t count)
{
    struct comm_piece *recv = list + g->size;
    spread(g, recv, x->p, 0, (size_t)count * type_bytes(type));
    for (int p = 0, at = 0; p < g->size; p++)
        if (p != g->me)
            recv[p].p = x->p + (size_t)at++ * recv[p].bytes;
    list[g->me].bytes = recv[g->me].bytes = 0; /* read where it is */
    TRY(swap_queue(g, s, what, list, g->size, recv, g->size, NULL));
    g->c->be->add(s, &OP(add, .count = count, .a = list[g->me].p, .before = g->me, .b = x->p,
                         .parts = g->size - 1, .y = y, .type = type));
    return 0;
}

int reduce_scatter(struct group *g, struct stream *s, enum type type, const void *whole, void *part,
                   int64_t count)
{
    size_t unit = type_bytes(type), bytes = (size_t)count * unit;
    if (g->size == 1)
        return all_gather(g, s, whole, part, bytes);
    const struct comm_scratch *scratch = scratch_of(g->c, s);
    int64_t chunk = chunk_size(g, scratch, "reduce_scatter", type);
    if (!chunk)
        return -1;
    struct comm_piece *list = lists_new(g);
    int rc = 0;
    for (int64_t at = 0; at < count && rc == 0; at += chunk) {
        int64_t n = min64(chunk, count - at);
        size_t skip = (size_t)at * unit;
        spread(g, list, (const char *)whole + skip, bytes, (size_t)n * unit);
        rc = swap_and_sum(g, s, "reduce_scatter", list, scratch, type, (char *)part + skip, n);
    }
    free(list);
    return rc;
}

/* Everyone's whole x to everyone: one step. */
static int reduce_small(struct group *g, struct stream *s, const struct comm_scratch *scratch, float *x,
                        int64_t count, struct comm_piece *list)
{
    spread(g, list, x, 0, (size_t)count * sizeof *x);
    return swap_and_sum(g, s, "all_reduce", list, scratch, F32, x, count);
}

/* One block of at most size·chunk elements: part p of it is summed by peer p, then gathered. Parts are whole
 * cache lines of 16 floats: 100 elements over four peers are parts of 32, 32, 32 and 4. */
static int reduce_block(struct group *g, struct stream *s, const struct comm_scratch *scratch, float *x,
                        int64_t count, int64_t chunk, struct comm_piece *list)
{
    struct comm_piece *send = list, *recv = list + g->size;
    int n = g->size;
    int64_t each = min64(chunk, round_up(ceil_div(count, n), 16));
    int64_t first = min64(count, each * g->me), mine = min64(each, count - first);
    for (int p = 0; p < n; p++) {
        int64_t at = min64(count, each * p), len = min64(each, count - at);
        send[p] = (struct comm_piece){p, x + at, (size_t)len * sizeof *x};
    }
    TRY(swap_and_sum(g, s, "all_reduce", list, scratch, F32, x + first, mine));
    for (int p = 0; p < n; p++)
        recv[p] = send[p];
    spread(g, send, x + first, 0, (size_t)mine * sizeof *x);
    send[g->me].bytes = 0;
    return swap_queue(g, s, "all_reduce", send, n, recv, n, NULL);
}

int all_reduce(struct group *g, struct stream *s, float *x, int64_t count)
{
    if (g->size == 1 || count == 0)
        return 0;
    const struct comm_scratch *scratch = scratch_of(g->c, s);
    int64_t chunk = chunk_size(g, scratch, "all_reduce", F32);
    if (!chunk)
        return -1;
    bool small = count <= chunk && count * g->size * (int64_t)sizeof *x <= SMALL_REDUCE;
    int64_t block = small ? count : chunk * g->size;
    struct comm_piece *list = lists_new(g);
    int rc = 0;
    for (int64_t at = 0; at < count && rc == 0; at += block)
        rc = small ? reduce_small(g, s, scratch, x, count, list)
                   : reduce_block(g, s, scratch, x + at, min64(block, count - at), chunk, list);
    free(list);
    return rc;
}

/* ---- along the tree ---- */

/* Up: x of this peer becomes that of it and all below it. */
static int sum_up(struct group *g, struct stream *s, const struct comm_scratch *scratch, char *x, size_t bytes,
                  bool f64)
{
    struct comm *c = g->c;
    int child[TREE_CHILDREN], count = tree_children(g->me, g->size, child);
    struct comm_piece recv[TREE_CHILDREN];
    for (int i = 0; i < count; i++)
        recv[i] = (struct comm_piece){child[i], scratch->p + (size_t)i * bytes, bytes};
    TRY(swap_queue(g, s, "tree_sum", NULL, 0, recv, count, NULL));
    void *parts = scratch->p;
    if (count && !f64)
        c->be->add(s, &OP(add, .count = (int64_t)(bytes / 4), .a = x, .b = parts, .parts = count, .y = x,
                          .type = F32));
    else if (count)
        c->be->add_f64(s, &OP(add_f64, .count = (int64_t)(bytes / 8), .parts = count, .b = parts,
                              .y = (double *)(void *)x));
    struct comm_piece up = {g->me ? tree_parent(g->me, g->size) : 0, x, bytes};
    return g->me ? swap_queue(g, s, "tree_sum", &up, 1, NULL, 0, NULL) : 0;
}

static int send_down(struct group *g, struct stream *s, char *x, size_t bytes)
{
    int child[TREE_CHILDREN], count = tree_children(g->me, g->size, child);
    struct comm_piece send[TREE_CHILDREN], down = {g->me ? tree_parent(g->me, g->size) : 0, x, bytes};
    for (int i = 0; i < count; i++)
        send[i] = (struct comm_piece){child[i], x, bytes};
    if (g->me)
        TRY(swap_queue(g, s, "tree_sum", NULL, 0, &down, 1, NULL));
    return swap_queue(g, s, "tree_sum", send, count, NULL, 0, NULL);
}

/* In pieces, the same on all peers, of which scratch holds one of each child. */
static int tree_sum(struct group *g, struct stream *s, void *x, size_t bytes, bool f64)
{
    if (g->size == 1 || bytes == 0)
        return 0;
    const struct comm_scratch *scratch = scratch_of(g->c, s);
    if (!scratch)
        return -1;
    int child[TREE_CHILDREN], children = tree_children(0, g->size, child); /* nobody has more */
    size_t most = scratch->bytes / (size_t)children / 64 * 64;
    if (most == 0)
        return error(STATUS_ENV, "tree_sum in group '%s': %zu bytes of scratch are too few", g->name,
                     scratch->bytes);
    for (size_t at = 0; at < bytes; at += most) {
        size_t n = bytes - at < most ? bytes - at : most;
        TRY(sum_up(g, s, scratch, (char *)x + at, n, f64));
        TRY(send_down(g, s, (char *)x + at, n));
    }
    return 0;
}

int tree_sum_f32(struct group *g, struct stream *s, float *x, int64_t count)
{
    return tree_sum(g, s, x, (size_t)count * sizeof *x, false);
}

int tree_sum_f64(struct group *g, struct stream *s, double *x, int64_t count)
{
    return tree_sum(g, s, x, (size_t)count * sizeof *x, true);
}

/* ---- from one to another ---- */

int comm_send(struct group *g, struct stream *s, int peer, const void *p, size_t bytes)
{
    return swap_queue(g, s, "send", &(struct comm_piece){peer, (void *)p, bytes}, 1, NULL, 0, NULL);
}

int comm_recv(struct group *g, struct stream *s, int peer, void *p, size_t bytes, struct comm_times *times)
{
    return swap_queue(g, s, "receive", NULL, 0, &(struct comm_piece){peer, p, bytes}, 1, times);
}
