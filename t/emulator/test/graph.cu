/* SPDX-License-Identifier: MIT */
/* Graphs: what is captured runs when it is launched, with the operands it was captured with, and what may
 * not be captured is refused. */
#include "test.h"

/* x[i] = 2·x[i] + y[i], a thread each */
__global__ void double_and_add(int *x, const int *y)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    x[i] = 2 * x[i] + y[i];
}

enum { N = 64 };

/* y = x, then x = 2·x + y: x is three times what it was. */
static cudaGraphExec_t capture(int *x, int *y, cudaStream_t s)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    cudaMemsetAsync(y, 1, N * sizeof *y, s);
    cudaMemcpyAsync(y, x, N * sizeof *y, cudaMemcpyDeviceToDevice, s);
    launch(double_and_add, 2, N / 2, 0, s, x, y);
    if (cudaStreamEndCapture(s, &graph) != cudaSuccess ||
        cudaGraphInstantiateWithFlags(&exec, graph, 0) != cudaSuccess)
        return nullptr;
    cudaGraphDestroy(graph);
    return exec;
}

/* What fails while s captures, with what it says; then no graph comes of it, and s is as it was. */
static bool refused(cudaError_t (*what)(int *x, cudaStream_t s), cudaError_t says, int *x, cudaStream_t s)
{
    cudaGraph_t graph;
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    cudaMemsetAsync(x, 0, N * sizeof *x, s);
    bool right =
        what(x, s) == says && cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated && !graph;
    cudaGetLastError();
    return right && cudaStreamSynchronize(s) == cudaSuccess;
}

static cudaEvent_t before; /* recorded outside of any capture */
static cudaError_t allocates(int *, cudaStream_t)
{
    void *p;
    return cudaMalloc(&p, 1);
}
static cudaError_t frees(int *x, cudaStream_t)
{
    return cudaFree(x);
}
static cudaError_t locks_pages(int *, cudaStream_t)
{
    void *p;
    return cudaHostAlloc(&p, 1, cudaHostAllocDefault);
}
static cudaError_t waits(int *, cudaStream_t s)
{
    return cudaStreamSynchronize(s);
}
static cudaError_t asks(int *, cudaStream_t s)
{
    return cudaStreamQuery(s);
}
static cudaError_t asks_event(int *, cudaStream_t)
{
    return cudaEventQuery(before);
}
static cudaError_t waits_for_event(int *, cudaStream_t s)
{
    return cudaStreamWaitEvent(s, before, 0);
}
static cudaError_t waits_for_all(int *, cudaStream_t)
{
    return cudaDeviceSynchronize();
}
static cudaError_t brings_down(int *x, cudaStream_t s)
{
    int host;
    return cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, s);
}
static cudaError_t takes_up(int *x, cudaStream_t s)
{
    int host = 1;
    return cudaMemcpyAsync(x, &host, sizeof host, cudaMemcpyHostToDevice, s);
}

bool good_graphs(cudaStream_t s)
{
    std::vector<int> x(N), want(N);
    for (int &v : x)
        v = small_number();
    int *dx = to_device(x, s), *dy = device<int>(N);
    cudaGraphExec_t exec = capture(dx, dy, s);
    bool right = exec && from_device(dx, N, s) == x; /* nothing has run */
    for (int i = 0; i < 3 && right; i++)
        right = cudaGraphLaunch(exec, s) == cudaSuccess;
    for (int i = 0; i < N; i++)
        want[static_cast<size_t>(i)] = 27 * x[static_cast<size_t>(i)];
    cudaGraphExecDestroy(exec); /* which still runs */
    right = right && from_device(dx, N, s) == want;
    cudaEventCreate(&before);
    cudaEventRecord(before, s);
    cudaError_t no = cudaErrorStreamCaptureUnsupported;
    for (auto *what :
         {allocates, frees, locks_pages, waits, asks, asks_event, waits_for_all, brings_down, takes_up})
        right = right && refused(what, no, dx, s);
    right = right && refused(waits_for_event, cudaErrorStreamCaptureIsolation, dx, s);
    cudaGraph_t none;
    right = right && cudaStreamEndCapture(s, &none) == cudaErrorStreamCaptureUnmatched;
    cudaGetLastError();
    return right && from_device(dx, N, s) == want;
}

/* What a graph writes is read in another stream that does not wait for it. */
void graph_not_awaited(float *x, cudaStream_t s)
{
    cudaStream_t other;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    int *y = device<int>(N), *z = device<int>(N);
    cudaGraphExec_t exec = capture(reinterpret_cast<int *>(x), y, s);
    cudaGraphLaunch(exec, s);
    cudaStreamSynchronize(s);
    cudaGraphLaunch(exec, s);
    cudaMemcpyAsync(z, y, N * sizeof *y, cudaMemcpyDeviceToDevice, other);
    cudaDeviceSynchronize();
}
