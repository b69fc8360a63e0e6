/* SPDX-License-Identifier: MIT */
/* NCCL between processes of one host. A call's part that waits for other ranks goes on in
 * ncclCommGetAsyncError(), or within the stream's operation. */
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emulator.h"
#include "lanes.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

struct ncclComm {
    std::string name;
    std::shared_ptr<lanes> l;
    bool blocking;
    ncclResult_t async;              /* what went wrong */
    std::function<bool()> under_way; /* done? empty: nothing is */
    std::shared_ptr<bool> aborted;
    std::shared_ptr<operation> last;
    cudaStream_t held;            /* the stream that the call under way will be queued in */
    uint32_t captured;            /* operations so far */
    std::shared_ptr<char> graphs; /* each operation in a graph has a copy */
};

/* A call within ncclGroupStart() and ncclGroupEnd(). */
struct group_call {
    ncclComm_t comm;
    cudaStream_t stream;
    bool gathers;
    std::vector<message> sends, recvs;
};

static std::vector<group_call> calls;
static int depth;
static std::string last_error;

static ncclResult_t said(ncclResult_t r, const std::string &text)
{
    last_error = text;
    return r;
}

/* How each function of NCCL begins. */
#define BEGIN_NCCL                                                                                             \
    do {                                                                                                       \
        if (cudaError_t e_ = injected(__func__))                                                               \
            return said(static_cast<ncclResult_t>(e_), std::string(__func__) + " was told to fail");           \
    } while (0)

static void pause_briefly()
{
    struct timespec t = {0, 100000};
    nanosleep(&t, nullptr);
}

/* The result of a call whose `part` goes on; with a communicator that blocks it is waited for. */
static ncclResult_t begin(ncclComm_t comm, std::function<bool()> part)
{
    if (comm->under_way)
        report(nullptr, "NCCL is called for '%s', whose call before is still in progress", comm->name.c_str());
    comm->under_way = part;
    if (!comm->blocking)
        return ncclInProgress;
    while (!comm->under_way())
        pause_briefly();
    comm->under_way = nullptr;
    return comm->async;
}

/* ---- what the library says of itself ---- */

EXPORT ncclResult_t ncclGetVersion(int *version)
{
    const char *given = getenv("MOEKIT_EMULATOR_NCCL");
    *version = given ? atoi(given) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

EXPORT const char *ncclGetErrorString(ncclResult_t r)
{
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "NCCL operation in progress"};
    return r >= 0 && r <= ncclInProgress ? text[r] : "unknown result code";
}

EXPORT const char *ncclGetLastError(ncclComm_t)
{
    return last_error.c_str();
}

/* ---- communicators ---- */

static ncclComm_t comm_make(const ncclConfig_t *config, const ncclComm *parent)
{
    ncclComm_t comm = new ncclComm();
    comm->name = config && config->commName ? config->commName : "unnamed";
    comm->blocking = config && config->blocking != NCCL_CONFIG_UNDEF_INT ? config->blocking != 0
                     : parent                                            ? parent->blocking
                                                                         : true;
    comm->aborted = std::make_shared<bool>(false);
    comm->graphs = std::make_shared<char>();
    return comm;
}

/* NCCL waits for ever then. */
static void no_graphs(ncclComm_t comm, const char *function)
{
    if (comm->graphs.use_count() > 1)
        report(nullptr, "%s() of '%s', of which a graph still has operations", function, comm->name.c_str());
}

EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    BEGIN_NCCL;
    place at = lanes_make();
    memset(id, 0, sizeof *id);
    memcpy(id->internal, &at, sizeof at);
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t *made, int ranks, ncclUniqueId id, int rank,
                                           ncclConfig_t *config)
{
    BEGIN_NCCL;
    place at;
    memcpy(&at, id.internal, sizeof at);
    ncclComm_t comm = *made = comm_make(config, nullptr);
    comm->l = lanes_open(at, ranks, rank, comm->name);
    if (!comm->l)
        return comm->async = said(ncclSystemError, "the process that made the id is gone");
    return begin(comm, [comm] { return lanes_joined(*comm->l); });
}

EXPORT ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *made, ncclConfig_t *config)
{
    BEGIN_NCCL;
    *made = nullptr;
    ncclComm_t child = comm_make(config, comm);
    auto d = std::make_shared<division>(division_begin(comm->l, color, key, child->name));
    return begin(comm, [=] {
        if (!division_done(*d))
            return false;
        child->l = d->made;
        if (color >= 0)
            *made = child;
        else
            delete child;
        return true;
    });
}

EXPORT ncclResult_t ncclCommCount(ncclComm_t comm, int *count)
{
    *count = comm->l->ranks;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommUserRank(ncclComm_t comm, int *rank)
{
    *rank = comm->l->rank;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    BEGIN_NCCL;
    if (comm->under_way && !*comm->aborted && comm->under_way())
        comm->under_way = nullptr;
    *error = comm->async != ncclSuccess ? comm->async : comm->under_way ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    BEGIN_NCCL;
    no_graphs(comm, __func__);
    return begin(comm, [comm] {
        stream_let_run();
        return !comm->last || comm->last->done;
    });
}

EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    BEGIN_NCCL;
    no_graphs(comm, __func__);
    *comm->aborted = true;
    if (comm->held)
        stream_hold(comm->held, nullptr);
    delete comm;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    BEGIN_NCCL;
    if (comm->last && !comm->last->done)
        report(nullptr, "ncclCommDestroy() of '%s', whose last operation is not done", comm->name.c_str());
    delete comm;
    return ncclSuccess;
}

/* ---- operations ---- */

/* 'nccl' is a function, too, in $MOEKIT_EMULATOR_FAIL: the N-th operation goes wrong while it runs, is never
 * done, and its communicator has this error from then on. */
static void queue_transfer(ncclComm_t comm, cudaStream_t s, const std::shared_ptr<transfer> &t)
{
    ncclResult_t wrong = static_cast<ncclResult_t>(injected("nccl"));
    std::shared_ptr<bool> aborted = comm->aborted;
    operation op;
    op.name = t->what + " of '" + comm->name + "'";
    op.poll = [=] {
        if (wrong != ncclSuccess && !*aborted)
            comm->async = said(wrong, "an operation was told to fail");
        return *aborted || (wrong == ncclSuccess && transfer_move(*t));
    };
    if (comm->last)
        op.after.push_back(comm->last);
    comm->last = stream_queue(s, std::move(op));
}

static void queue_call(const group_call &c)
{
    const char *what = c.gathers ? "ncclAllGather()" : "ncclSend()/Recv()";
    ncclComm_t comm = c.comm;
    if (!capture_is(c.stream)) {
        auto t = transfer_make(comm->l, what, 0, c.sends, c.recvs);
        queue_transfer(comm, c.stream, std::make_shared<transfer>(t));
        return;
    }
    uint32_t number = ++comm->captured;
    capture_add([=, kept = comm->graphs](cudaStream_t s) {
        auto t = transfer_make(comm->l, what, number, c.sends, c.recvs);
        queue_transfer(comm, s, std::make_shared<transfer>(t));
    });
}

static ncclResult_t group_end()
{
    std::vector<group_call> all;
    all.swap(calls);
    if (all.empty())
        return ncclSuccess;
    ncclComm_t comm = all[0].comm;
    cudaStream_t s = all[0].stream;
    group_call sum = all[0];
    for (size_t i = 1; i < all.size(); i++) {
        if (all[i].comm != comm || all[i].stream != s || all[i].gathers || sum.gathers)
            report(nullptr,
                   "a group of calls with several communicators, streams or collectives is not emulated");
        sum.sends.insert(sum.sends.end(), all[i].sends.begin(), all[i].sends.end());
        sum.recvs.insert(sum.recvs.end(), all[i].recvs.begin(), all[i].recvs.end());
    }
    if (comm->blocking) {
        queue_call(sum);
        return comm->async;
    }
    /* It has not gone to the stream when the call returns: what the caller queues there meanwhile would be
     * before it. */
    uint32_t later = random_below(3);
    stream_hold(s, "NCCL's call before it is still in progress (ncclCommGetAsyncError())");
    comm->held = s;
    return begin(comm, [=]() mutable {
        if (later-- > 0)
            return false;
        stream_hold(s, nullptr);
        comm->held = nullptr;
        queue_call(sum);
        return true;
    });
}

EXPORT ncclResult_t ncclGroupStart()
{
    BEGIN_NCCL;
    depth++;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclGroupEnd()
{
    if (depth == 0)
        return said(ncclInvalidUsage, "ncclGroupEnd: not in a group call");
    depth--;
    BEGIN_NCCL;
    return depth ? ncclSuccess : group_end();
}

static ncclResult_t call(group_call c, const char *name)
{
    for (const std::vector<message> *list : {&c.sends, &c.recvs})
        for (const message &m : *list)
            if (m.peer < 0 || m.peer >= c.comm->l->ranks)
                return said(ncclInvalidArgument,
                            std::string(name) + ": there is no rank " + std::to_string(m.peer));
    calls.push_back(std::move(c));
    return depth ? ncclSuccess : group_end();
}

static size_t type_size(ncclDataType_t type)
{
    if (type != ncclInt8)
        report(nullptr, "data of NCCL's type %d is not emulated", static_cast<int>(type));
    return 1;
}

EXPORT ncclResult_t ncclSend(const void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t s)
{
    BEGIN_NCCL;
    char *from = static_cast<char *>(const_cast<void *>(p));
    return call({comm, s, false, {{peer, from, count * type_size(type)}}, {}}, __func__);
}

EXPORT ncclResult_t ncclRecv(void *p, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                             cudaStream_t s)
{
    BEGIN_NCCL;
    return call({comm, s, false, {}, {{peer, static_cast<char *>(p), count * type_size(type)}}}, __func__);
}

EXPORT ncclResult_t ncclAllGather(const void *part, void *whole, size_t count, ncclDataType_t type,
                                  ncclComm_t comm, cudaStream_t s)
{
    BEGIN_NCCL;
    group_call c = {comm, s, true, {}, {}};
    char *mine = static_cast<char *>(const_cast<void *>(part)), *all = static_cast<char *>(whole);
    size_t bytes = count * type_size(type);
    for (int r = 0; r < comm->l->ranks; r++) {
        char *place = all + static_cast<size_t>(r) * bytes;
        if (r == comm->l->rank && place == mine)
            continue;
        c.sends.push_back({r, mine, bytes});
        c.recvs.push_back({r, place, bytes});
    }
    return call(std::move(c), __func__);
}
