/* SPDX-License-Identifier: MIT */
/* Inside the cuda backend: its streams, and the operations, each in the file of its family. Operations queue
 * kernels and return; what fails meanwhile is kept (failure.h). They run on a rank's only device, which is
 * the current one of the thread that called cuda_open(); one thread a process uses it. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "device.h"
#include "staging.h"

extern "C" {
#include "backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "scratch.h"
}

struct kept;  /* streams.cu */
struct marks; /* library.cu */
struct stream {
    cudaStream_t cuda;
    void *scratch; /* given, or the stream's own; NULL until there is one */
    size_t scratch_bytes;
    bool owns_scratch;
    struct staging staging;
    struct kept *first, **last; /* what waits for the host, */
    int kept;                   /* and how many that is */
    struct marks *marks;        /* around work of libraries; NULL until there is some */
    bool capturing;             /* what is queued becomes a graph */
    struct stream *next;        /* of all streams */
};

static inline cudaStream_t cuda_stream(struct stream *s)
{
    return s->cuda;
}

/* Device memory that is the caller's operation's alone, since its stream runs one at a time (scratch.h). NULL,
 * and a failure is kept, if there is none. */
void *cuda_scratch(struct stream *s, size_t bytes);

template <class T> static inline T *cuda_scratch_of(struct stream *s, int64_t count)
{
    return static_cast<T *>(cuda_scratch(s, static_cast<size_t>(count) * sizeof(T)));
}

/* Keeps a failure of `what` unless e is success. */
void cuda_keep(cudaError_t e, const char *what);

#define X(name) void cuda_##name(struct stream *s, const struct name *p);
BACKEND_OPS(X)
#undef X

/* What the library is opened for (kernels/cuda.c): the table for the machine's device number `device` modulo
 * their number. NULL with error() set. */
extern "C" __attribute__((visibility("default"))) const struct backend *cuda_open(int device);

#endif
