/* SPDX-License-Identifier: MIT */
#include "probe/wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/halt.h"
#include "base/memory.h"
#include "base/notice.h"
#include "comm/collective.h"
#include "comm/host.h"

const char *const wire_name[WIRES] = {
    [WIRE_MESSAGE] = "point to point", [WIRE_GATHER] = "all-gather",   [WIRE_SCATTER] = "reduce-scatter",
    [WIRE_REDUCE] = "all-reduce",      [WIRE_EXCHANGE] = "all-to-all",
};

enum { ALL_PAIRS = 64, REPEATS = 8, TAG = 77 };

/* ---- collectives ---- */

/* Both ways with one peer; with itself nothing. */
static int swap_with(const struct bench *b, struct group *g, int peer, size_t bytes)
{
    struct comm_piece send = {peer, b->memory, bytes}, recv = {peer, b->memory + bytes, bytes};
    int count = peer != group_rank(g);
    return exchange(g, b->s, &send, count, &recv, count);
}

static int exchange_all(const struct bench *b, struct group *g, size_t bytes)
{
    int n = group_size(g);
    size_t each = bytes / (size_t)n / 64 * 64;
    struct comm_piece *list = xmalloc(2 * (size_t)n * sizeof *list);
    for (int i = 0; i < n; i++) {
        list[i] = (struct comm_piece){i, b->memory + (size_t)i * each, each};
        list[n + i] = (struct comm_piece){i, b->memory + ((size_t)n + (size_t)i) * each, each};
    }
    int r = exchange(g, b->s, list, n, list + n, n);
    free(list);
    return r;
}

static int once(const struct bench *b, struct group *g, enum wire wire, size_t bytes)
{
    int n = group_size(g), me = group_rank(g), peer = me ^ 1;
    size_t each = bytes / (size_t)n / 64 * 64;
    switch (wire) {
    case WIRE_MESSAGE:
        return swap_with(b, g, peer < n ? peer : me, bytes);
    case WIRE_GATHER:
        return all_gather(g, b->s, b->memory + (size_t)me * each, b->memory, each);
    case WIRE_SCATTER:
        return reduce_scatter(g, b->s, F32, b->memory, b->memory + (size_t)me * each, (int64_t)(each / 4));
    case WIRE_REDUCE:
        return all_reduce(g, b->s, (float *)(void *)b->memory, (int64_t)(bytes / 4));
    default:
        return exchange_all(b, g, bytes);
    }
}

int wire_time(const struct bench *b, struct group *g, enum wire wire, size_t bytes, int repeats, double *s)
{
    TRY(once(b, g, wire, bytes));
    TRY(b->be->sync(b->s));
    TRY(bench_wait(g));
    double start = now_s();
    for (int i = 0; i < repeats; i++) {
        TRY(once(b, g, wire, bytes));
        TRY(b->be->sync(b->s));
    }
    int64_t ns = (int64_t)(1e9 * (now_s() - start) / repeats);
    TRY(host_max(g, &ns));
    *s = 1e-9 * (double)ns;
    return 0;
}

/* ---- groups ---- */

int wires_open(struct wires *w, struct comm *c, const struct plan *p)
{
    *w = (struct wires){.plan = p};
    for (int kind = 0; p && kind < GROUP_KINDS; kind++) {
        const struct plan_group *g = plan_group_of(p, kind, comm_rank(c));
        if (!g || g->size == 1)
            continue;
        w->group[kind] = comm_group(c, group_name[kind], g->ranks, g->size);
        if (!w->group[kind])
            return -1;
    }
    return comm_join(c, w->group, GROUP_KINDS);
}

void wires_close(struct wires *w)
{
    for (int kind = 0; kind < GROUP_KINDS; kind++)
        comm_group_free(w->group[kind]);
    *w = (struct wires){0};
}

/* ---- links ---- */

/* As players in a tournament: the last one stays, the others turn in a circle. */
int link_rounds(int n)
{
    int rounds = n % 2 ? n : n - 1;
    if (n > ALL_PAIRS)
        for (rounds = 0; 1 << rounds < n;)
            rounds++;
    return rounds;
}

int link_partner(int n, int round, int me)
{
    if (n > ALL_PAIRS)
        return (me ^ 1 << round) < n ? me ^ 1 << round : me;
    int turning = n % 2 ? n : n - 1; /* with an odd number, who plays the one that is not there rests */
    if (me == turning)
        return round;
    int other = (2 * round - me + 2 * turning) % turning;
    return other != me ? other : n % 2 ? me : turning;
}

/* A few bytes of each to the other. */
static int tell(struct group *g, int peer, const void *mine, void *theirs, size_t bytes)
{
    struct comm_request *in = host_recv(g, peer, TAG, theirs, bytes);
    struct comm_request *out = in ? host_send(g, peer, TAG, mine, bytes) : NULL;
    int r = out ? comm_wait(out, NULL) : -1;
    return r < 0 ? -1 : comm_wait(in, NULL);
}

static int measure_link(const struct bench *b, struct group *g, int peer, struct link *l, const char *host)
{
    char name[HOST_NAME] = "";
    snprintf(name, sizeof name, "%s", host);
    TRY(tell(g, peer, name, l->host, sizeof name));
    l->host[HOST_NAME - 1] = '\0';
    l->across = strcmp(l->host, host) != 0;
    double start = now_s(), warm;
    TRY(swap_with(b, g, peer, LINK_BYTES));
    TRY(b->be->sync(b->s));
    warm = now_s() - start;
    /* What is wrong with a link is so each time; to wait for a processor is not. */
    for (int i = 0; i < REPEATS; i++) {
        start = now_s();
        halt_slow("link", warm + 5e-3); /* beyond what waiting for a processor makes of the others */
        TRY(swap_with(b, g, peer, LINK_BYTES));
        TRY(b->be->sync(b->s));
        l->Bps = fmax(l->Bps, LINK_BYTES / (now_s() - start));
    }
    double there; /* the same link, with other chances */
    TRY(tell(g, peer, &l->Bps, &there, sizeof there));
    l->Bps = fmax(l->Bps, there);
    return 0;
}

/* With every other member of a group. */
static int measure_group(const struct bench *b, struct group *g, enum group_kind kind,
                         const struct plan_group *of, const char *host, struct link **list, int *count)
{
    int n = group_size(g), me = group_rank(g), rounds = link_rounds(n);
    *list = xrealloc(*list, (size_t)(*count + rounds), sizeof **list);
    for (int r = 0; r < rounds; r++) {
        int peer = link_partner(n, r, me);
        if (peer == me)
            continue;
        struct link *l = &(*list)[(*count)++];
        *l = (struct link){.kind = kind, .index = of ? of->index : 0, .peer = of ? of->ranks[peer] : peer};
        TRY(measure_link(b, g, peer, l, host));
        progress(of ? group_name[kind] : "links", (uint64_t)r + 1, (uint64_t)rounds, "rounds");
    }
    return 0;
}

/* Whether an earlier kind has the same ranks: its links are measured already. */
static bool seen(const struct plan *p, enum group_kind kind, int rank)
{
    const struct plan_group *g = plan_group_of(p, kind, rank);
    for (int k = 0; k < (int)kind; k++) {
        const struct plan_group *before = plan_group_of(p, k, rank);
        if (before && before->size == g->size &&
            memcmp(before->ranks, g->ranks, (size_t)g->size * sizeof *g->ranks) == 0)
            return true;
    }
    return false;
}

int wires_measure(const struct bench *b, const struct wires *w, const char *host, struct link **list,
                  int *count)
{
    *list = NULL;
    *count = 0;
    if (!w->plan)
        return comm_size(b->comm) == 1
                   ? 0
                   : measure_group(b, comm_world(b->comm), GROUP_KINDS, NULL, host, list, count);
    for (int kind = 0; kind < GROUP_KINDS; kind++) {
        if (w->group[kind] && !seen(w->plan, kind, comm_rank(b->comm)))
            TRY(measure_group(b, w->group[kind], kind, plan_group_of(w->plan, kind, comm_rank(b->comm)), host,
                              list, count));
        TRY(bench_wait(comm_world(b->comm)));
    }
    return 0;
}
