/* SPDX-License-Identifier: MIT */
/* Graphs, captured from a stream and launched as often as one likes. Of CUDA's there are those of one
 * stream: what comes out is a list, of which each launch queues a copy, or makes NCCL's call. While a stream
 * captures, what CUDA does not allow then fails as it does there and spoils the capture; in doubt it is not
 * allowed (README). */
#include "emulator.h"

struct CUgraph_st {
    std::vector<std::function<void(cudaStream_t)>> list;
};
struct CUgraphExec_st {
    std::vector<std::function<void(cudaStream_t)>> list;
};

static cudaStream_t capturing; /* NULL: none; never the default stream */
static CUgraph_st *captured;
static bool spoiled;

bool capture_is(cudaStream_t s)
{
    return s && s == capturing;
}

bool capture_forbids()
{
    spoiled = spoiled || capturing;
    return capturing;
}

void capture_add(std::function<void(cudaStream_t)> again)
{
    captured->list.push_back(std::move(again));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    BEGIN;
    if (!s || s == cudaStreamLegacy)
        return keep_error(cudaErrorStreamCaptureUnsupported);
    if (capturing)
        return keep_error(cudaErrorIllegalState);
    capturing = s;
    captured = new CUgraph_st();
    spoiled = false;
    return cudaSuccess;
}

/* The capture is over, whatever it says. */
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    cudaError_t e = injected(__func__);
    *graph = nullptr;
    if (e == cudaSuccess && !capture_is(s))
        e = cudaErrorStreamCaptureUnmatched;
    if (e == cudaSuccess && spoiled)
        e = cudaErrorStreamCaptureInvalidated;
    if (e == cudaSuccess)
        e = sticky_error;
    if (e == cudaSuccess)
        *graph = captured;
    else
        delete captured;
    capturing = nullptr;
    captured = nullptr;
    return keep_error(e);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
    BEGIN;
    *status = !capture_is(s) ? cudaStreamCaptureStatusNone
              : spoiled      ? cudaStreamCaptureStatusInvalidated
                             : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    BEGIN;
    stream_may_finish();
    *exec = new CUgraphExec_st{graph->list};
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    BEGIN;
    delete graph;
    return cudaSuccess;
}
/* What is queued of it still runs. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    BEGIN;
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    BEGIN;
    if (capture_is(s)) { /* CUDA makes a graph within a graph of it */
        capture_forbids();
        return keep_error(cudaErrorStreamCaptureUnsupported);
    }
    for (const auto &again : exec->list)
        again(s);
    return keep_error(sticky_error);
}
