/* SPDX-License-Identifier: MIT */
/* Graphs (backend.h): a stream's work captured by CUDA, and launched as a whole. */
#ifndef KERNELS_CUDA_GRAPH_H
#define KERNELS_CUDA_GRAPH_H

#include "cuda.h"

/* What the backend's table has. What was kept of the stream stays before the graph's launch, not the
 * capture. */
int graph_begin(struct stream *s);
struct graph *graph_end(struct stream *s);
void graph_free(struct graph *g);
/* At once: nothing is kept of s. */
void graph_launch(struct stream *s, struct graph *g);

#endif
