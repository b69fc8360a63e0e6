/* SPDX-License-Identifier: MIT */
/* Work of a device's library (NCCL) in streams: struct device_work of backend.h.
 *
 * Each stands between two marks in its stream, events that tell the host whether it has begun and whether it is
 * done. Such work waits on the device for other machines, which may never answer: while any is under way the
 * host does not block in CUDA, but asks, and lets the work that has begun and is the oldest say how long.
 *
 * Work that is captured into a graph is given to the library once. It is watched each time that the graph runs:
 * the marks are around the graph, which also tells the host how far it is. */
#ifndef KERNELS_CUDA_LIBRARY_H
#define KERNELS_CUDA_LIBRARY_H

#include <cuda_runtime_api.h>
#include <functional>
#include <vector>

struct stream;
struct device_work;
typedef std::vector<struct device_work *> library_works;

/* What the backend's table has. */
void library_queue(struct stream *s, struct device_work *w);
/* Before s captures a graph; a failure is kept. What it has captured, the caller's to release. */
void library_capture(struct stream *s);
library_works library_captured(struct stream *s);
/* give() launches in s a graph with this work, which stays where it is until library_release(). */
void library_launch(struct stream *s, const library_works *some, const std::function<void()> &give);
void library_release(library_works *some);
/* Whether some work has failed: there is nothing to go on with. */
bool library_failed(void);
/* Asks all that is under way whether it has failed; a failure is kept. */
void library_check(void);
/* Until `query` no longer says cudaErrorNotReady: what it says, or what `block`, which waits for the same, says
 * when nothing is under way. After a failure, which is kept, it says success at once. */
cudaError_t library_await(const std::function<cudaError_t()> &query, const std::function<cudaError_t()> &block);
/* The stream goes, and all in it is done or has failed. */
void library_end(struct stream *s);

#endif
