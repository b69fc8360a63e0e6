/* SPDX-License-Identifier: MIT */
/* NCCL between processes: three ranks, each a fork made before any has used a device. */
#include <nccl.h>
#include <signal.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

namespace
{
constexpr int RANKS = 3;
constexpr size_t LARGE = 100000; /* more than goes through at once */
int rank;
cudaStream_t stream, beside;
ncclComm_t world;

/* A call's result once it is there. */
bool settled(ncclComm_t comm, ncclResult_t r)
{
    while (r == ncclInProgress)
        if (ncclCommGetAsyncError(comm, &r) != ncclSuccess)
            return false;
    return r == ncclSuccess;
}

ncclConfig_t named(const char *name)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.commName = name;
    return config;
}

/* One message to the next rank and one from the one before. */
ncclResult_t pass_on(const char *out, char *in, size_t send, size_t receive, cudaStream_t s)
{
    ncclGroupStart();
    ncclSend(out, send, ncclInt8, (rank + 1) % RANKS, world, s);
    ncclRecv(in, receive, ncclInt8, (rank + RANKS - 1) % RANKS, world, s);
    return ncclGroupEnd();
}

std::vector<char> pattern(int of, size_t bytes)
{
    std::vector<char> x(bytes);
    for (size_t i = 0; i < bytes; i++)
        x[i] = static_cast<char>(static_cast<size_t>(of + 1) * i % 251);
    return x;
}

bool right_messages()
{
    char *out = to_device(pattern(rank, LARGE), stream), *in = device<char>(LARGE),
         *all = device<char>(RANKS * LARGE);
    if (!settled(world, pass_on(out, in, LARGE, LARGE, stream)) ||
        !settled(world, ncclAllGather(out, all, LARGE, ncclInt8, world, stream)))
        return false;
    bool ok = from_device(in, LARGE, stream) == pattern((rank + RANKS - 1) % RANKS, LARGE);
    for (int r = 0; r < RANKS; r++)
        ok = ok && from_device(all + static_cast<size_t>(r) * LARGE, LARGE, stream) == pattern(r, LARGE);
    return ok;
}

/* Ranks 0 and 2 are a group, in which 2 comes first; their messages pass those of the world in another stream.
 * */
bool right_split()
{
    ncclComm_t pair = nullptr;
    ncclConfig_t config = named(rank == 1 ? "none" : "pair");
    if (!settled(world, ncclCommSplit(world, rank == 1 ? NCCL_SPLIT_NOCOLOR : 0, -rank, &pair, &config)))
        return false;
    if (rank == 1)
        return pair == nullptr && right_messages();
    int me = -1, size = 0;
    ncclCommUserRank(pair, &me);
    ncclCommCount(pair, &size);
    if (!settled(pair, ncclInProgress) || size != 2 || me != (rank == 2 ? 0 : 1))
        return false;
    char *x = to_device(pattern(rank, LARGE), beside), *both = device<char>(2 * LARGE);
    bool ok = settled(pair, ncclAllGather(x, both, LARGE, ncclInt8, pair, beside)) && right_messages();
    ok = ok && from_device(both, LARGE, beside) == pattern(2, LARGE) &&
         from_device(both + LARGE, LARGE, beside) == pattern(0, LARGE);
    return ok && settled(pair, ncclCommFinalize(pair)) && ncclCommDestroy(pair) == ncclSuccess;
}

/* What `give` gives the stream as a graph. */
cudaGraphExec_t captured(bool (*give)(char *x, char *y), char *x, char *y)
{
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (!give(x, y) || cudaStreamEndCapture(stream, &graph) != cudaSuccess ||
        cudaGraphInstantiateWithFlags(&exec, graph, 0) != cudaSuccess)
        return nullptr;
    cudaGraphDestroy(graph);
    return exec;
}

/* To the next rank, and again what has come. */
bool pass_twice(char *x, char *y)
{
    return settled(world, pass_on(x, y, LARGE, LARGE, stream)) &&
           cudaMemcpyAsync(x, y, LARGE, cudaMemcpyDeviceToDevice, stream) == cudaSuccess &&
           settled(world, pass_on(x, y, LARGE, LARGE, stream));
}

bool right_graph()
{
    char *x = to_device(pattern(rank, LARGE), stream), *y = device<char>(LARGE);
    cudaGraphExec_t exec = captured(pass_twice, x, y);
    bool ok = exec && right_messages(); /* nothing of it has run */
    for (int i = 0; i < 2 && ok; i++) {
        ok = cudaGraphLaunch(exec, stream) == cudaSuccess && right_messages();
        ok = ok && from_device(y, LARGE, stream) == pattern((rank + RANKS - 2 - i) % RANKS, LARGE);
    }
    return cudaGraphExecDestroy(exec) == cudaSuccess && ok;
}

bool right()
{
    return right_messages() && right_split() && right_graph() && settled(world, ncclCommFinalize(world)) &&
           ncclCommDestroy(world) == ncclSuccess;
}

/* ---- what is wrong; true: nobody noticed ---- */

bool other_size()
{
    char *x = device<char>(64), *y = device<char>(64);
    return settled(world, pass_on(x, y, rank == 1 ? 12 : 8, 8, stream)) && cudaStreamSynchronize(stream) == 0;
}

bool other_number()
{
    char *x = device<char>(64), *y = device<char>(64);
    ncclGroupStart();
    for (int i = 0; i < (rank == 1 ? 2 : 1); i++)
        ncclSend(x, 8, ncclInt8, (rank + 1) % RANKS, world, stream);
    ncclRecv(y, 8, ncclInt8, (rank + RANKS - 1) % RANKS, world, stream);
    return settled(world, ncclGroupEnd()) && cudaStreamSynchronize(stream) == 0;
}

bool other_order()
{
    char *x = device<char>(64), *y = device<char>(64);
    for (int i = 0; i < 2; i++)
        if (!settled(world, (rank == 1) == (i == 0) ? ncclAllGather(x, y, 8, ncclInt8, world, stream)
                                                    : pass_on(x, y, 8, 8, stream)))
            return false;
    return cudaStreamSynchronize(stream) == 0;
}

bool other_split()
{
    ncclComm_t made = nullptr;
    ncclConfig_t config = named(rank == 1 ? "tp" : "ep");
    return settled(world, ncclCommSplit(world, 0, rank, &made, &config));
}

bool overtaken()
{
    char *x = device<char>(64), *y = device<char>(64);
    ncclResult_t r = pass_on(x, y, 8, 8, stream);
    cudaMemsetAsync(x, 0, 8, stream);
    return settled(world, r) && cudaStreamSynchronize(stream) == 0;
}

bool missing_event()
{
    char *x = device<char>(64), *y = device<char>(64);
    cudaMemsetAsync(y, 0, 8, beside);
    return settled(world, pass_on(x, y, 8, 8, stream)) && cudaStreamSynchronize(stream) == 0 &&
           cudaStreamSynchronize(beside) == 0;
}

bool past_end()
{
    char *x = device<char>(64), *y = device<char>(64);
    return settled(world, ncclAllGather(x, y, 32, ncclInt8, world, stream)) &&
           cudaStreamSynchronize(stream) == 0;
}

bool pass_small(char *x, char *y)
{
    return settled(world, pass_on(x, y, 8, 8, stream));
}

/* Rank 1 launches a graph, the others do the same without. */
bool graph_alone()
{
    char *x = device<char>(64), *y = device<char>(64);
    cudaGraphExec_t exec = captured(pass_small, x, y);
    return (rank == 1 ? cudaGraphLaunch(exec, stream) == cudaSuccess : pass_small(x, y)) &&
           cudaStreamSynchronize(stream) == 0;
}

/* Rank 1 launches the other graph. */
bool other_graph()
{
    char *x = device<char>(64), *y = device<char>(64);
    cudaGraphExec_t first = captured(pass_small, x, y), second = captured(pass_small, x, y);
    return cudaGraphLaunch(rank == 1 ? second : first, stream) == cudaSuccess &&
           cudaStreamSynchronize(stream) == 0;
}

bool graph_kept()
{
    char *x = device<char>(64), *y = device<char>(64);
    return captured(pass_small, x, y) && settled(world, ncclCommFinalize(world));
}

bool told_to_fail()
{
    setenv("MOEKIT_EMULATOR_FAIL", "nccl:2:6", 1);
    char *x = device<char>(64), *y = device<char>(64);
    bool first = settled(world, pass_on(x, y, 8, 8, stream)) && cudaStreamSynchronize(stream) == 0;
    bool second = settled(world, pass_on(x, y, 8, 8, stream));
    ncclResult_t r = ncclSuccess;
    for (int i = 0; i < 1000 && r == ncclSuccess; i++) {
        cudaStreamQuery(stream);
        ncclCommGetAsyncError(world, &r);
    }
    /* aborted, it leaves nothing behind that waits */
    return first && second && r == ncclRemoteError && ncclCommAbort(world) == ncclSuccess &&
           cudaStreamSynchronize(stream) == 0;
}

const struct {
    const char *name;
    bool (*run)();
} cases[] = {{"nccl", right},
             {"nccl_told_to_fail", told_to_fail},
             {"nccl_size", other_size},
             {"nccl_number", other_number},
             {"nccl_order", other_order},
             {"nccl_split", other_split},
             {"nccl_overtaken", overtaken},
             {"nccl_missing_event", missing_event},
             {"nccl_graph_alone", graph_alone},
             {"nccl_other_graph", other_graph},
             {"nccl_graph_kept", graph_kept},
             {"nccl_past_end", past_end}};

struct meeting_place {
    ncclUniqueId id;
    volatile int there;
};

int be_rank(int me, meeting_place *m, bool (*run)())
{
    rank = me;
    if (rank == 0) {
        if (ncclGetUniqueId(&m->id) != ncclSuccess)
            return 1;
        m->there = 1;
    }
    while (!m->there)
        usleep(1000);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking);
    ncclConfig_t config = named("world");
    return settled(world, ncclCommInitRankConfig(&world, RANKS, m->id, rank, &config)) && run() ? 0 : 1;
}

int run_ranks(bool (*run)())
{
    void *shared =
        mmap(nullptr, sizeof(meeting_place), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    meeting_place *m = static_cast<meeting_place *>(shared);
    pid_t ranks[RANKS];
    for (int r = 0; r < RANKS; r++)
        if ((ranks[r] = fork()) == 0)
            _exit(be_rank(r, m, run));
    int worst = 0;
    for (int left = RANKS, status; left > 0 && wait(&status) > 0; left--) {
        int s = WIFEXITED(status) ? WEXITSTATUS(status) : worst ? worst : 1;
        worst = worst ? worst : s;
        for (int r = 0; r < RANKS && worst; r++)
            kill(ranks[r], SIGKILL); /* they would wait for the one that is gone */
    }
    return worst;
}
} // namespace

int nccl_case(const char *name)
{
    for (const auto &c : cases)
        if (!strcmp(c.name, name))
            return run_ranks(c.run);
    return -1;
}
