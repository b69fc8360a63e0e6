/* SPDX-License-Identifier: MIT */
/* What all kinds share: opening, groups, and messages from one rank to another. */
#include "comm/comm.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/ops.h"

/* ---- opening and closing ---- */

bool comm_launched(void)
{
    return launcher_kind() != LAUNCHER_NONE;
}

#define X(name) &comm_##name,
static const struct comm_ops *const kinds[] = {COMM_KINDS(X)};
#undef X
#define X(name) #name,
static const char *const names[] = {COMM_KINDS(X) NULL};
#undef X
const struct words comm_words = WORDS(names);

static const struct comm_ops *find_kind(const char *kind)
{
    if (strcmp(kind, "auto") == 0)
        kind = comm_launched() ? "mpi" : "self";
    int i = word_index(&comm_words, kind);
    return i < 0 ? NULL : kinds[i];
}

static struct group *group_new(struct comm *c, const char *name, const int *ranks, int count)
{
    struct group *g = xcalloc(1, sizeof *g);
    g->c = c;
    g->name = xstrdup(name);
    g->ranks = xmalloc((size_t)count * sizeof *ranks);
    g->size = count;
    g->me = -1;
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *s = name; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    for (int i = 0; i < count; i++) {
        h = (h ^ (uint32_t)ranks[i]) * 16777619u;
        g->ranks[i] = ranks[i];
        if (ranks[i] == c->rank)
            g->me = i;
    }
    g->hash = h ^ h >> 15;
    return g;
}

static atomic_bool told_to_end; /* a watchdog asks too */

void comm_end(void)
{
    told_to_end = true;
}

bool comm_told_to_end(void)
{
    sigset_t pending;
    return told_to_end || (sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1);
}

const struct comm_fault *comm_fault(const struct comm *c)
{
    return c->failed ? &c->fault : NULL;
}

struct comm *comm_open(const char *kind)
{
    return comm_open_within(kind, COMM_TIMEOUT_S, NULL);
}

struct comm *comm_open_within(const char *kind, double timeout_s, void (*last_words)(const struct comm_fault *))
{
    const struct comm_ops *ops = find_kind(kind);
    if (!ops) {
        error(STATUS_USAGE, "no kind of communication is called '%s'", kind);
        return NULL;
    }
    struct comm *c = xcalloc(1, sizeof *c);
    *c = (struct comm){.ops = ops, .size = 1, .local_ranks = 1, .timeout = timeout_s, .last_words = last_words};
    cpu_set_t mine;
    process_cpus(&mine);
    c->processors = CPU_COUNT(&mine);
    if (ops->open(c)) {
        free(c->local_list);
        free(c);
        return NULL;
    }
    int *all = xmalloc((size_t)c->size * sizeof *all);
    for (int i = 0; i < c->size; i++)
        all[i] = i;
    c->world = group_new(c, "world", all, c->size);
    free(all);
    return c;
}

int comm_attach(struct comm *c, const struct backend *be)
{
    c->be = be;
    return c->ops->attach ? c->ops->attach(c) : 0;
}

void comm_redirect(struct comm *c, const struct backend *be)
{
    c->be = be;
}

int comm_join(struct comm *c, struct group *const *groups, int count)
{
    return c->ops->join && c->size > 1 ? c->ops->join(c, groups, count) : 0;
}

bool comm_in_graphs(const struct comm *c)
{
    return c->ops->swap != NULL;
}

int comm_poll(struct comm *c)
{
    return c->be ? c->be->poll() : 0;
}

void comm_close(struct comm *c)
{
    if (!c)
        return;
    c->ops->close(c);
    comm_group_free(c->world);
    free(c->local_list);
    if (c->own_scratch)
        c->be->free(c->own_scratch, LEAST_SCRATCH);
    free(c);
}

void comm_abort(struct comm *c, int status)
{
    fflush(NULL);
    if (c)
        c->ops->abort(c, status);
    exit(status);
}

int comm_rank(const struct comm *c)
{
    return c->rank;
}

int comm_size(const struct comm *c)
{
    return c->size;
}

const char *comm_kind(const struct comm *c)
{
    return c->ops->kind;
}

int comm_local_rank(const struct comm *c)
{
    return c->local_rank;
}

int comm_local_ranks(const struct comm *c)
{
    return c->local_ranks;
}

int comm_processors(const struct comm *c)
{
    return c->processors;
}

const int *comm_local_list(const struct comm *c)
{
    return c->local_list;
}

void comm_set_timeout(struct comm *c, double seconds)
{
    c->timeout = seconds;
}

void comm_set_scratch(struct comm *c, void *device, size_t bytes)
{
    c->scratch = (struct comm_scratch){NULL, device, bytes};
}

void comm_set_scratch_beside(struct comm *c, const struct stream *s, void *device, size_t bytes)
{
    c->beside = (struct comm_scratch){s, device, bytes};
}

/* ---- groups ---- */

static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

struct group *comm_group(struct comm *c, const char *name, const int *ranks, int count)
{
    bool mine = false, bad = false;
    int wrong = -1, *sorted = xmalloc((size_t)count * sizeof *sorted);
    memcpy(sorted, ranks, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    for (int i = 0; i < count && !bad; i++) {
        wrong = sorted[i];
        bad = wrong < 0 || wrong >= c->size || (i && sorted[i - 1] == wrong);
        mine = mine || wrong == c->rank;
    }
    free(sorted);
    if (bad)
        error(STATUS_ENV, "group '%s': rank %d is not one of %d, or is there twice", name, wrong, c->size);
    else if (!mine)
        error(STATUS_ENV, "group '%s': rank %d is not in it", name, c->rank);
    return mine && !bad ? group_new(c, name, ranks, count) : NULL;
}

void comm_group_free(struct group *g)
{
    if (!g)
        return;
    free(g->name);
    free(g->ranks);
    free(g->turns);
    free(g);
}

struct group *comm_world(struct comm *c)
{
    return c->world;
}

int group_size(const struct group *g)
{
    return g->size;
}

int group_rank(const struct group *g)
{
    return g->me;
}

/* ---- from one rank to another ---- */

static struct comm_request *post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes)
{
    if (peer < 0 || peer >= g->size || tag < 0 || tag >= COMM_TAGS) {
        error(STATUS_ENV, "group '%s': there is no peer %d, or tag %d is out of range", g->name, peer, tag);
        return NULL;
    }
    return g->c->ops->post(g, receive, peer, tag, p, bytes);
}

struct comm_request *host_send(struct group *g, int peer, int tag, const void *p, size_t bytes)
{
    return post(g, false, peer, tag, (void *)p, bytes);
}

struct comm_request *host_recv(struct group *g, int peer, int tag, void *p, size_t bytes)
{
    return post(g, true, peer, tag, p, bytes);
}

bool comm_done(struct comm_request *r)
{
    return r->g->c->ops->done(r);
}

int comm_wait(struct comm_request *r, double *idle_s)
{
    if (!r)
        return 0;
    int rc = r->g->c->ops->wait(r, idle_s);
    free(r);
    return rc;
}
