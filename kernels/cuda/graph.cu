/* SPDX-License-Identifier: MIT */
#include "graph.h"

#include "library.h"

struct graph {
    cudaGraphExec_t exec;
    library_works works;
};

/* This thread's calls alone are watched for what may not be captured: libraries have threads of their own. */
int graph_begin(struct stream *s)
{
    if (failure_kept())
        return 0;
    library_capture(s);
    if (failure_kept())
        return failure_take();
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
    library_works works = library_captured(s);
    if (captured) {
        cuda_keep(cudaGraphInstantiateWithFlags(&exec, captured, 0), "making a graph");
        cuda_keep(cudaGraphDestroy(captured), "freeing what was captured");
    }
    if (failure_take() < 0) { /* also what an operation said of itself meanwhile */
        if (exec)
            cudaGraphExecDestroy(exec);
        library_release(&works);
        if (library_failed()) /* which is more than this graph's */
            failure_set("%s", error_text());
        return NULL;
    }
    return new graph{exec, works};
}

void graph_launch(struct stream *s, struct graph *g)
{
    library_launch(s, &g->works, [=] { cuda_keep(cudaGraphLaunch(g->exec, s->cuda), "launching a graph"); });
}

/* CUDA frees what still runs when it is done. */
void graph_free(struct graph *g)
{
    cuda_keep(cudaGraphExecDestroy(g->exec), "freeing a graph");
    library_release(&g->works);
    delete g;
}
