/* SPDX-License-Identifier: MIT */
/* NCCL is asked for two things only, both of which move bytes and compute nothing: sends and receives in one
 * group call, and the all-gather. Sums are made of them in collective.c, in the order of the ranks; NCCL's own
 * have another order for each shape of a machine. */
#include "base/error.h" /* a build without NCCL has this file all the same */

#ifdef MOEKIT_NCCL
#include "comm/nccl_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/faults.h"
#include "base/halt.h"
#include "base/memory.h"

struct nccl_work {
    struct device_work work; /* first */
    struct group *g;
    struct comm_piece *list; /* sends, then receives; NULL: an all-gather */
    int sends, recvs;
    const void *part;
    void *whole;
    struct patience patience;
    bool waiting;
};

/* ---- waiting ---- */

/* The peers of the operation, each once. */
static int awaited(const void *of, int *peer, int most)
{
    const struct nccl_work *w = of;
    int n = 0;
    for (int i = 0; !w->list && i < w->g->size && n < most; i++)
        if (i != w->g->me)
            peer[n++] = i;
    for (int i = 0; w->list && i < w->sends + w->recvs && n < most; i++) {
        bool seen = false;
        for (int k = 0; k < n && !seen; k++)
            seen = peer[k] == w->list[i].peer;
        if (!seen)
            peer[n++] = w->list[i].peer;
    }
    return n;
}

int nccl_settle(struct patience *p, ncclComm_t comm, ncclResult_t code)
{
    const struct nccl_library *l = nccl_library();
    bool waiting = code == ncclInProgress;
    if (waiting)
        mpi_wait_begin(p, 0);
    while (code == ncclInProgress) {
        if (!mpi_still(p))
            return mpi_wait_lost(p);
        ncclResult_t asked = l->CommGetAsyncError(comm, &code);
        code = asked == ncclSuccess ? code : asked;
    }
    if (waiting)
        mpi_wait_end(p);
    if (code == ncclSuccess)
        return 0;
    int peer[COMM_AWAITED], n = p->awaited(p->of, peer, COMM_AWAITED);
    return nccl_failed(p->g, p->what, code, peer, n);
}

/* ---- the work ---- */

static bool fine(ncclResult_t code)
{
    return code == ncclSuccess || code == ncclInProgress;
}

static ncclResult_t send_and_receive(struct nccl_work *w, void *stream)
{
    const struct nccl_library *l = nccl_library();
    ncclComm_t comm = w->g->device;
    ncclResult_t code = l->GroupStart();
    for (int i = 0; i < w->sends + w->recvs && fine(code); i++) {
        const struct comm_piece *p = &w->list[i];
        size_t bytes = p->bytes - (broken("nccl-bytes") && w->g->me == 0 && i < w->sends);
        code = i < w->sends ? l->Send(p->p, bytes, ncclInt8, p->peer, comm, stream)
                            : l->Recv(p->p, bytes, ncclInt8, p->peer, comm, stream);
    }
    ncclResult_t end = l->GroupEnd();
    return fine(code) ? end : code;
}

static int issue(struct device_work *work, void *stream)
{
    struct nccl_work *w = (struct nccl_work *)work;
    ncclComm_t comm = w->g->device;
    stream = broken("nccl-stream") ? NULL : stream;
    halt_at("nccl");
    w->patience = (struct patience){.g = w->g, .what = work->what, .awaited = awaited, .of = w};
    ncclResult_t code = w->list
                            ? send_and_receive(w, stream)
                            : nccl_library()->AllGather(w->part, w->whole, work->bytes, ncclInt8, comm, stream);
    if (broken("nccl-not-settled"))
        return 0;
    /* What is queued behind it must not overtake it: NCCL may still be connecting to the peers. */
    return nccl_settle(&w->patience, comm, code);
}

static int check(struct device_work *work)
{
    struct nccl_work *w = (struct nccl_work *)work;
    ncclResult_t code = ncclSuccess, asked = nccl_library()->CommGetAsyncError(w->g->device, &code);
    code = asked == ncclSuccess ? code : asked;
    if (fine(code))
        return 0;
    int peer[COMM_AWAITED], n = awaited(w, peer, COMM_AWAITED);
    return nccl_failed(w->g, work->what, code, peer, n);
}

static int await(struct device_work *work)
{
    struct nccl_work *w = (struct nccl_work *)work;
    TRY(check(work));
    if (!w->waiting)
        mpi_wait_begin(&w->patience, work->bytes);
    w->waiting = mpi_still(&w->patience);
    return w->waiting ? 0 : mpi_wait_lost(&w->patience);
}

static void rest(struct device_work *work)
{
    struct nccl_work *w = (struct nccl_work *)work;
    if (w->waiting)
        mpi_wait_end(&w->patience);
    w->waiting = false;
}

static void release(struct device_work *work)
{
    struct nccl_work *w = (struct nccl_work *)work;
    rest(work);
    free(w->list);
    free(w);
}

/* ---- queueing ---- */

static int queue(struct stream *s, const struct nccl_work *work)
{
    struct group *g = work->g;
    if (!g->device)
        return error(STATUS_ENV, "%s in group '%s': it has not joined (comm_join())", work->work.what, g->name);
    struct nccl_work *w = xmalloc(sizeof *w);
    *w = *work;
    w->work.group = g->name;
    w->work.issue = issue;
    w->work.check = check;
    w->work.await = await;
    w->work.rest = rest;
    w->work.release = release;
    g->c->be->device_work(s, &w->work);
    return 0;
}

int nccl_swap(struct group *g, struct stream *s, const char *what, const struct comm_piece *send, int sends,
              const struct comm_piece *recv, int recvs)
{
    struct nccl_work w = {.work.what = what, .g = g, .sends = sends, .recvs = recvs};
    w.list = xmalloc(((size_t)sends + (size_t)recvs) * sizeof *w.list);
    for (int i = 0; i < sends + recvs; i++)
        w.list[i] = i < sends ? send[i] : recv[i - sends];
    for (int i = 0; i < (sends ? sends : recvs); i++)
        w.work.bytes += w.list[i].bytes;
    int r = queue(s, &w);
    if (r < 0)
        free(w.list);
    return r;
}

int nccl_all_gather(struct group *g, struct stream *s, const void *part, void *whole, size_t bytes)
{
    return queue(
        s, &(struct nccl_work){.work = {.what = "all_gather", .bytes = broken("nccl-half") ? bytes / 2 : bytes},
                               .g = g,
                               .part = part,
                               .whole = whole});
}
#endif
