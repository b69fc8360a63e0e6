/* SPDX-License-Identifier: MIT */
#include "graph.h"

struct graph {
    cudaGraphExec_t exec;
};

/* This thread's calls alone are watched for what may not be captured: libraries have threads of their own. */
int graph_begin(struct stream *s)
{
    if (failure_kept())
        return 0;
    cudaError_t e = cudaStreamBeginCapture(s->cuda, cudaStreamCaptureModeThreadLocal);
    cuda_keep(e, "beginning to capture a graph");
    s->capturing = e == cudaSuccess;
    return s->capturing ? 1 : failure_take();
}

struct graph *graph_end(struct stream *s)
{
    cudaGraph_t captured = NULL;
    cudaGraphExec_t exec = NULL;
    cuda_keep(cudaStreamEndCapture(s->cuda, &captured), "capturing a graph");
    s->capturing = false;
    if (captured) {
        cuda_keep(cudaGraphInstantiateWithFlags(&exec, captured, 0), "making a graph");
        cuda_keep(cudaGraphDestroy(captured), "freeing what was captured");
    }
    if (failure_take() < 0) { /* also what an operation said of itself meanwhile */
        if (exec)
            cudaGraphExecDestroy(exec);
        return NULL;
    }
    return new graph{exec};
}

void graph_launch(struct stream *s, struct graph *g)
{
    cuda_keep(cudaGraphLaunch(g->exec, s->cuda), "launching a graph");
}

void graph_free(struct graph *g)
{
    cuda_keep(cudaGraphExecDestroy(g->exec), "freeing a graph");
    delete g;
}
