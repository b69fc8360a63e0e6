/* SPDX-License-Identifier: MIT */
/* The kind `nccl`: device operations by NVIDIA's NCCL, in the device's streams; the host's messages are mpi's,
 * and so are the waits: who is alive is asked through them (mpi_alive.h).
 *
 * comm_join() makes one communicator of all ranks, whose id goes round by the host's messages, and from it one
 * for each kind of group, by splitting, in the same order on all ranks. A kind whose groups have one rank each
 * has none. Communicators connect their ranks when they first talk to each other.
 *
 * Each communicator runs its operations one at a time, in the order in which they were queued, in whatever
 * streams; `strict` has shown that this cannot deadlock. They share nothing: what one waits for does not hold
 * up another.
 *
 * No call blocks. Where NCCL says that it is under way, it is asked again, with patience; what has been queued
 * is watched by two marks in its stream (struct device_work). */
#include "comm/over.h"

#include "base/error.h"

#ifdef MOEKIT_NCCL
#include <stdlib.h>
#include <string.h>

#include "base/faults.h"
#include "base/memory.h"
#include "comm/host.h"
#include "comm/nccl_queue.h"
#include "comm/watchdog.h"

#define ABORT_S 20 /* ncclCommAbort() ends kernels and threads; longer than this it never will */

struct made {
    ncclComm_t comm;
    char *name; /* NCCL may keep the pointer */
};

/* The communicators, the world's first. */
struct nccl {
    struct made *list;
    int count;
};

/* ---- joining ---- */

static int everyone(const void *of, int *peer, int most)
{
    const struct group *g = of;
    int n = 0;
    for (int i = 0; i < g->size && n < most; i++)
        if (i != g->me)
            peer[n++] = i;
    return n;
}

static struct patience patience(struct group *world, const char *what)
{
    return (struct patience){.g = world, .what = what, .awaited = everyone, .of = world};
}

static struct made *make(struct nccl *m, const char *name)
{
    m->list[m->count] = (struct made){.name = xstrdup(name)};
    return &m->list[m->count++];
}

static ncclConfig_t config(const struct made *made)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.commName = made->name;
    return config;
}

static int join_world(struct comm *c)
{
    struct nccl *m = c->above;
    const struct nccl_library *l = nccl_library();
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    ncclResult_t code = c->rank ? ncclSuccess : l->GetUniqueId(&id);
    int64_t bad = code != ncclSuccess;
    TRY(host_max(c->world, &bad));
    if (bad)
        return code == ncclSuccess ? error(STATUS_ENV, "%s", "")
                                   : nccl_failed(c->world, "ncclGetUniqueId", code, NULL, 0);
    TRY(host_broadcast(c->world, 0, &id, sizeof id));
    struct made *made = make(m, "world");
    ncclConfig_t with = config(made);
    struct patience p = patience(c->world, "ncclCommInitRank");
    code = l->CommInitRankConfig(&made->comm, c->size, id, c->rank, &with);
    TRY(nccl_settle(&p, made->comm, code));
    c->world->device = made->comm;
    return 0;
}

/* This rank's group of a kind, or NULL. The lowest rank of a group stands for it. */
static int split(struct comm *c, struct group *g)
{
    struct nccl *m = c->above;
    const struct nccl_library *l = nccl_library();
    int color = NCCL_SPLIT_NOCOLOR;
    for (int i = 0; g && i < g->size; i++)
        color = color < 0 || g->ranks[i] < color ? g->ranks[i] : color;
    int key = !g ? 0 : broken("nccl-key") ? -g->me : g->me;
    struct made *made = make(m, g ? g->name : "none");
    ncclConfig_t with = config(made);
    struct patience p = patience(c->world, "ncclCommSplit");
    ncclComm_t world = c->world->device;
    ncclResult_t code = l->CommSplit(world, color, key, &made->comm, &with);
    TRY(nccl_settle(&p, world, code)); /* only then it is there */
    if (!g)
        return 0;
    TRY(nccl_settle(&p, made->comm, ncclInProgress));
    int size = 0, me = -1;
    l->CommCount(made->comm, &size);
    l->CommUserRank(made->comm, &me);
    if (size != g->size || me != g->me)
        return error(STATUS_ENV,
                     "ncclCommSplit made a group '%s' in which this is rank %d of %d, and not %d of %d",
                     g->name, me, size, g->me, g->size);
    g->device = made->comm;
    return 0;
}

static void either(void *into, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((char *)into)[i] |= ((const char *)from)[i];
}

static int join(struct comm *c, struct group *const *groups, int count)
{
    struct nccl *m = c->above;
    m->list = xcalloc((size_t)count + 1, sizeof *m->list);
    char *needed = xcalloc((size_t)count + 1, 1); /* kinds in which some group has several ranks */
    for (int k = 0; k < count; k++)
        needed[k] = groups[k] && groups[k]->size > 1;
    int r = host_all_reduce(c->world, needed, (size_t)count, either);
    if (r == 0)
        r = join_world(c);
    for (int i = 0; i < count && r == 0; i++) {
        int k = broken("nccl-split-order") && c->rank % 2 ? count - 1 - i : i;
        if (needed[k])
            r = split(c, groups[k] && groups[k]->size > 1 ? groups[k] : NULL);
    }
    free(needed);
    return r;
}

/* ---- the kind ---- */

static int open_nccl(struct comm *c)
{
    /* Streams that wait for each other's ranks must not wait for each other in the device's queues: 8 of these
     * by default, read when the backend begins. */
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    /* What is captured goes the way of what is not. Memory of peers, registered, would have to outlive it. */
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    TRY(over_open(c));
    c->above = xcalloc(1, sizeof(struct nccl));
    return 0;
}

static int attach(struct comm *c)
{
    if (c->size == 1)
        return 0;
    if (!c->be->device_work)
        return error(STATUS_ENV,
                     "communication 'nccl' is for GPUs, and backend '%s' computes without: use --comm mpi",
                     c->be->name);
    return nccl_library() ? 0 : -1;
}

/* Those of a rank in the order of making, as on all ranks. */
static void close_nccl(struct comm *c)
{
    struct nccl *m = c->above;
    const struct nccl_library *l = m->count ? nccl_library() : NULL;
    struct watchdog *w = l ? watchdog_start(c, "ncclCommFinalize", c->timeout, false) : NULL;
    for (int i = m->count - 1; i >= 0; i--) {
        ncclComm_t comm = m->list[i].comm;
        struct patience p = patience(c->world, "ncclCommFinalize");
        if (comm && nccl_settle(&p, comm, l->CommFinalize(comm)) == 0)
            l->CommDestroy(comm);
        else if (comm)
            l->CommAbort(comm);
        free(m->list[i].name);
    }
    watchdog_stop(w);
    free(m->list);
    free(m);
    over_close(c);
}

/* Kernels that wait for a rank that never comes are ended, so that nothing of this process stays on the device.
 */
static void abort_nccl(struct comm *c, int status)
{
    struct nccl *m = c->above;
    c->last_words = NULL; /* they have been said */
    struct watchdog *w = watchdog_start(c, "ncclCommAbort", ABORT_S, false);
    for (int i = m->count - 1; i >= 0; i--)
        if (m->list[i].comm)
            nccl_library()->CommAbort(m->list[i].comm);
    watchdog_stop(w);
    m->count = 0;
    over_abort(c, status);
}
#else
static int open_nccl(struct comm *c)
{
    return error(STATUS_ENV,
                 "this build has no NCCL, since its header nccl.h, of version 2.28 or later, was not "
                 "found with a CUDA toolkit: use --comm mpi");
}
static int attach(struct comm *c)
{
    return 0;
}
static void close_nccl(struct comm *c)
{
}
static void abort_nccl(struct comm *c, int status)
{
}
#endif

const struct comm_ops comm_nccl = {
    .kind = "nccl",
    .open = open_nccl,
    .attach = attach,
    .close = close_nccl,
    .abort = abort_nccl,
    .post_all = over_post_all,
    .test_all = over_test_all,
    .await_all = over_await_all,
    .free_all = over_free_all,
    .one_piece = true,
    .post = over_post,
    .done = over_done,
    .wait = over_wait,
#ifdef MOEKIT_NCCL
    .swap = nccl_swap,
    .all_gather = nccl_all_gather,
    .join = join,
#endif
};
