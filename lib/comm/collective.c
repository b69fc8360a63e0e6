/* SPDX-License-Identifier: MIT */
/* The collectives on device memory in terms of messages, and its mapping.
 *
 * Sums: every peer's piece lands in scratch in peer order, one's own included, and the backend's `add` sums
 * them from zero. The order is the same whoever owns the piece, so all ranks get the same bits. */
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "comm/host.h"
#include "comm/ops.h"

/* Below this an all-reduce gathers everything in one step; above, parts are summed and then gathered. */
#define SMALL_REDUCE (64 << 10)

/* ---- the one primitive: messages between everyone ---- */

/* Device memory that the host may touch for a while. */
struct map {
    char *p, *host;
    size_t bytes;
};

static void unmap(struct comm *c, const struct map *maps, int count, enum host_access access)
{
    for (int i = 0; i < count; i++)
        c->be->host_unmap(c->stream, maps[i].p, maps[i].bytes, access, maps[i].host);
}

/* Pieces that touch (or are the same) share a map: a GPU stages each map with one copy. */
static int find_runs(const struct comm_piece *list, int count, struct map *maps)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        char *p = list[i].p;
        struct map *m = n ? &maps[n - 1] : NULL;
        if (m && p >= m->p && p <= m->p + m->bytes)
            m->bytes = (size_t)max64((int64_t)m->bytes, p - m->p + (int64_t)list[i].bytes);
        else
            maps[n++] = (struct map){.p = p, .bytes = list[i].bytes};
    }
    return n;
}

/* Maps the pieces and makes them point to host memory. Returns the number of maps, or -1. */
static int map_pieces(struct comm *c, struct comm_piece *list, int count, enum host_access access,
                      struct map *maps)
{
    int n = find_runs(list, count, maps);
    for (int i = 0; i < n; i++) {
        maps[i].host = c->be->host_map(c->stream, maps[i].p, maps[i].bytes, access);
        if (!maps[i].host) {
            unmap(c, maps, i, access);
            return -1;
        }
    }
    const struct map *m = maps;
    for (int i = 0; i < count; i++) {
        char *p = list[i].p;
        while (p < m->p || p >= m->p + m->bytes)
            m++;
        list[i].p = m->host + (p - m->p);
    }
    return n;
}

/* Copies the pieces for oneself, whose two lists may be cut differently. */
static int copy_own(struct group *g, const char *what, const struct comm_piece *send, int sends,
                    const struct comm_piece *recv, int recvs)
{
    struct comm *c = g->c;
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
            c->be->copy(c->stream, to, from, n);
        s_at += n;
        r_at += n;
    }
    if (s < sends || r < recvs)
        return error(STATUS_ENV, "%s in group '%s': peer %d sends itself another size than it receives", what,
                     g->name, g->me);
    return 0;
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
    return n;
}

/* A swap of messages under way. */
struct swap {
    struct comm_piece *list; /* sends, then receives: those that travel */
    struct map *maps;        /* the same */
    int sends, recvs, send_maps, recv_maps;
};

static int map_swap(struct comm *c, struct swap *w)
{
    w->send_maps = map_pieces(c, w->list, w->sends, HOST_READ, w->maps);
    if (w->send_maps < 0)
        return -1;
    w->recv_maps = map_pieces(c, w->list + w->sends, w->recvs, HOST_WRITE, w->maps + w->send_maps);
    if (w->recv_maps >= 0)
        return 0;
    unmap(c, w->maps, w->send_maps, HOST_READ);
    return -1;
}

/* Own pieces are copied while the others travel. After a failure messages may still be under way: what is
 * mapped stays so. */
static int travel(struct group *g, const char *what, struct swap *w, const struct comm_piece *send, int sends,
                  const struct comm_piece *recv, int recvs)
{
    struct comm *c = g->c;
    if (w->sends + w->recvs == 0)
        return copy_own(g, what, send, sends, recv, recvs);
    if (map_swap(c, w))
        return -1;
    struct comm_batch *b = c->ops->post_all(g, what, w->list, w->sends, w->list + w->sends, w->recvs);
    if (!b)
        return -1;
    int own = copy_own(g, what, send, sends, recv, recvs);
    if (c->ops->wait_all(b) || own)
        return -1;
    unmap(c, w->maps, w->send_maps, HOST_READ);
    unmap(c, w->maps + w->send_maps, w->recv_maps, HOST_WRITE);
    return 0;
}

static int swap(struct group *g, const char *what, const struct comm_piece *send, int sends,
                const struct comm_piece *recv, int recvs)
{
    size_t most = (size_t)sends + (size_t)recvs + 1;
    struct swap w = {.list = xmalloc(most * sizeof *w.list), .maps = xmalloc(most * sizeof *w.maps)};
    w.sends = travelling(g, what, send, sends, w.list);
    if (w.sends >= 0)
        w.recvs = travelling(g, what, recv, recvs, w.list + w.sends);
    int rc = -1;
    if (w.sends >= 0 && w.recvs >= 0)
        rc = travel(g, what, &w, send, sends, recv, recvs);
    free(w.list);
    free(w.maps);
    return rc;
}

/* One piece for each peer, evenly laid out: peer p's is [base + p·step, … + bytes). */
struct strided {
    char *base;
    size_t step, bytes;
};

static int swap_strided(struct group *g, const char *what, struct strided send, struct strided recv)
{
    struct comm_piece *list = xmalloc(2 * (size_t)g->size * sizeof *list);
    for (int p = 0; p < g->size; p++) {
        size_t i = (size_t)p;
        list[p] = (struct comm_piece){p, send.base + i * send.step, send.bytes};
        list[g->size + p] = (struct comm_piece){p, recv.base + i * recv.step, recv.bytes};
    }
    int rc = swap(g, what, list, g->size, list + g->size, g->size);
    free(list);
    return rc;
}

/* ---- the collectives ---- */

int exchange(struct group *g, const struct comm_piece *send, int sends, const struct comm_piece *recv,
             int recvs)
{
    if (g->c->ops->exchange)
        return g->c->ops->exchange(g, send, sends, recv, recvs);
    return swap(g, "exchange", send, sends, recv, recvs);
}

int all_gather(struct group *g, const void *part, void *whole, size_t bytes)
{
    if (g->c->ops->all_gather)
        return g->c->ops->all_gather(g, part, whole, bytes);
    return swap_strided(g, "all_gather", (struct strided){(void *)part, 0, bytes},
                        (struct strided){whole, bytes, bytes});
}

/* Elements of a sum that fit scratch once for each peer; 0 with error() set. */
static int64_t chunk_size(struct group *g, const char *what, enum type type)
{
    struct comm *c = g->c;
    if (!c->scratch) {
        c->own_scratch = c->be->alloc(LEAST_SCRATCH);
        if (!c->own_scratch)
            return 0;
        comm_set_scratch(c, c->own_scratch, LEAST_SCRATCH);
    }
    /* Whole cache lines where there is room, so that parts start aligned. */
    int64_t n = (int64_t)(c->scratch_bytes / type_bytes(type)) / g->size;
    int64_t line = 64 / (int64_t)type_bytes(type);
    if (n > line)
        n -= n % line;
    if (n == 0)
        error(STATUS_ENV, "%s in group '%s': %zu bytes of scratch are too few for %d peers", what, g->name,
              c->scratch_bytes, g->size);
    return n;
}

/* y = Σ of the parts in scratch. */
static void sum_parts(struct group *g, enum type type, void *y, int64_t count)
{
    struct comm *c = g->c;
    c->be->add(c->stream, &OP(add, .count = count, .b = c->scratch, .parts = g->size, .y = y, .type = type));
}

int reduce_scatter(struct group *g, enum type type, const void *whole, void *part, int64_t count)
{
    struct comm *c = g->c;
    size_t unit = type_bytes(type), bytes = (size_t)count * unit;
    if (c->ops->reduce_scatter)
        return c->ops->reduce_scatter(g, type, whole, part, count);
    if (g->size == 1)
        return all_gather(g, whole, part, bytes);
    int64_t chunk = chunk_size(g, "reduce_scatter", type);
    if (!chunk)
        return -1;
    for (int64_t at = 0; at < count; at += chunk) {
        int64_t n = min64(chunk, count - at);
        size_t len = (size_t)n * unit, skip = (size_t)at * unit;
        if (swap_strided(g, "reduce_scatter", (struct strided){(char *)whole + skip, bytes, len},
                         (struct strided){c->scratch, len, len}))
            return -1;
        sum_parts(g, type, (char *)part + skip, n);
    }
    return 0;
}

/* Everyone's whole x to everyone: one step. */
static int reduce_small(struct group *g, float *x, int64_t count)
{
    size_t bytes = (size_t)count * sizeof *x;
    if (swap_strided(g, "all_reduce", (struct strided){(void *)x, 0, bytes},
                     (struct strided){g->c->scratch, bytes, bytes}))
        return -1;
    sum_parts(g, F32, x, count);
    return 0;
}

/* One block of at most size·chunk elements: part p of it is summed by peer p, then gathered. Parts are whole
 * cache lines of 16 floats: 100 elements over four peers are parts of 32, 32, 32 and 4. */
static int reduce_block(struct group *g, float *x, int64_t count, int64_t chunk, struct comm_piece *send,
                        struct comm_piece *recv)
{
    struct comm *c = g->c;
    int n = g->size;
    int64_t each = min64(chunk, round_up(ceil_div(count, n), 16));
    int64_t first = min64(count, each * g->me), mine = min64(each, count - first);
    for (int p = 0; p < n; p++) {
        int64_t at = min64(count, each * p), len = min64(each, count - at);
        send[p] = (struct comm_piece){p, x + at, (size_t)len * sizeof *x};
        recv[p] = (struct comm_piece){p, (float *)(void *)c->scratch + mine * p, (size_t)mine * sizeof *x};
    }
    if (swap(g, "all_reduce", send, n, recv, n))
        return -1;
    sum_parts(g, F32, x + first, mine);
    for (int p = 0; p < n; p++) {
        recv[p] = send[p];
        send[p] = (struct comm_piece){p, x + first, (size_t)mine * sizeof *x};
    }
    return swap(g, "all_reduce", send, n, recv, n);
}

int all_reduce(struct group *g, float *x, int64_t count)
{
    struct comm *c = g->c;
    if (c->ops->all_reduce)
        return c->ops->all_reduce(g, x, count);
    if (g->size == 1 || count == 0)
        return 0;
    int64_t chunk = chunk_size(g, "all_reduce", F32);
    if (!chunk)
        return -1;
    if (count <= chunk && count * g->size * (int64_t)sizeof *x <= SMALL_REDUCE)
        return reduce_small(g, x, count);
    int64_t block = chunk * g->size;
    struct comm_piece *list = xmalloc(2 * (size_t)g->size * sizeof *list);
    int rc = 0;
    for (int64_t at = 0; at < count && rc == 0; at += block)
        rc = reduce_block(g, x + at, min64(block, count - at), chunk, list, list + g->size);
    free(list);
    return rc;
}

static void add_f32(void *into, const void *from, size_t bytes)
{
    float *x = into;
    const float *y = from;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] += y[i];
}

static void add_f64(void *into, const void *from, size_t bytes)
{
    double *x = into;
    const double *y = from;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] += y[i];
}

static int tree_sum(struct group *g, void *x, size_t bytes, host_combine *add)
{
    struct comm *c = g->c;
    if (g->size == 1 || bytes == 0)
        return 0;
    void *host = c->be->host_map(c->stream, x, bytes, HOST_READ | HOST_WRITE);
    if (!host)
        return -1;
    TRY(host_all_reduce(g, host, bytes, add));
    c->be->host_unmap(c->stream, x, bytes, HOST_READ | HOST_WRITE, host);
    return 0;
}

int tree_sum_f32(struct group *g, float *x, int64_t count)
{
    return tree_sum(g, x, (size_t)count * sizeof *x, add_f32);
}

int tree_sum_f64(struct group *g, double *x, int64_t count)
{
    return tree_sum(g, x, (size_t)count * sizeof *x, add_f64);
}
