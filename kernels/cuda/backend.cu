/* SPDX-License-Identifier: MIT */
/* The table of the cuda backend, its memory and copies. */
#include <errno.h>
#include <stdlib.h>
#include <vector>

#include "cuda.h"
#include "graph.h"
#include "library.h"
#include "open.h"
#include "products.h"
#include "streams.h"

/* ---- failures ---- */

void cuda_keep(cudaError_t e, const char *what)
{
    if (e != cudaSuccess && !kernel_failed())
        failure_set("cuda: %s: %s", what, device_trouble(e));
}

/* ---- memory ---- */

static void *alloc_device(size_t bytes)
{
    void *p = NULL;
    bytes = bytes ? bytes : 1;
    cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess) {
        size_t left = 0, all = 0;
        cudaGetLastError();
        if (e != cudaErrorMemoryAllocation || cudaMemGetInfo(&left, &all) != cudaSuccess)
            error(STATUS_ENV, "cannot allocate memory of the device: %s", device_trouble(e));
        else
            error(STATUS_ENV, "out of memory: the device has %zu bytes free of %zu, and %zu are needed", left,
                  all, bytes);
        errno = e == cudaErrorMemoryAllocation ? ENOMEM : EIO;
        return NULL;
    }
    return p;
}

static void free_device(void *p, size_t)
{
    cuda_keep(cudaFree(p), "freeing memory");
}

static void take_scratch(struct stream *s, void *p, size_t bytes)
{
    if (s->owns_scratch) /* cudaFree() waits for what still uses it */
        cuda_keep(cudaFree(s->scratch), "freeing a stream's scratch");
    s->owns_scratch = false;
    s->scratch = p;
    s->scratch_bytes = p ? bytes : 0;
    if (reinterpret_cast<uintptr_t>(p) % SCRATCH_ALIGN)
        failure_set("cuda: a stream's scratch is not aligned to %d bytes", SCRATCH_ALIGN);
}

void *cuda_scratch(struct stream *s, size_t bytes)
{
    if (s->scratch && bytes <= s->scratch_bytes)
        return s->scratch;
    void *p = NULL;
    size_t room = SCRATCH_BYTES;
    if (room < bytes)
        room = bytes;
    cuda_keep(cudaMalloc(&p, room), "allocating a stream's scratch");
    take_scratch(s, p, room);
    s->owns_scratch = p != NULL;
    return p;
}

/* ---- what is queued, in the order of streams.h ---- */

/* issue(s) in its turn; for no stream: done on return. */
template <class F> static void in_turn(struct stream *to, F issue)
{
    struct stream *s = to ? to : stream_aside();
    if (stream_clear(s))
        issue(s);
    else
        stream_issue(s, [=] { issue(s); });
    if (!to)
        stream_finish(s);
}

static void zero_bytes(struct stream *to, void *dst, size_t bytes)
{
    if (bytes)
        in_turn(to, [=](struct stream *s) { cuda_keep(cudaMemsetAsync(dst, 0, bytes, s->cuda), "zeroing"); });
}

static void copy_bytes(struct stream *to, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        in_turn(to, [=](struct stream *s) {
            cuda_keep(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->cuda), "copying");
        });
}

static void upload_bytes(struct stream *to, void *dst, const void *host, size_t bytes)
{
    struct stream *s = to ? to : stream_aside();
    if (stream_clear(s)) {
        staging_upload(&s->staging, s->cuda, dst, host, bytes);
    } else {
        std::vector<char> copy(static_cast<const char *>(host), static_cast<const char *>(host) + bytes);
        stream_issue(s, [=] { staging_upload(&s->staging, s->cuda, dst, copy.data(), bytes); });
    }
    if (!to)
        stream_finish(s);
}

static int download_bytes(struct stream *to, void *host, const void *src, size_t bytes)
{
    struct stream *s = to ? to : stream_aside();
    if (stream_sync(s) < 0)
        return -1;
    staging_download(&s->staging, s->cuda, host, src, bytes);
    return failure_take();
}

#define X(op)                                                                                                  \
    static void issue_##op(struct stream *to, const struct op *p)                                              \
    {                                                                                                          \
        in_turn(to, [copy = *p](struct stream *s) {                                                            \
            operation_queued = #op;                                                                            \
            cuda_##op(s, &copy);                                                                               \
        });                                                                                                    \
    }
BACKEND_OPS(X)
#undef X

static void run_graph(struct stream *to, struct graph *g)
{
    in_turn(to, [=](struct stream *s) {
        operation_queued = "graph";
        graph_launch(s, g);
    });
}

/* ---- the table ---- */

static struct backend table(void)
{
    struct backend be = {};
    be.name = "cuda";
    be.alloc = alloc_device;
    be.free = free_device;
    be.stream_new = stream_make;
    be.stream_free = stream_end;
    be.stream_scratch = take_scratch;
    be.event_new = event_make;
    be.event_free = event_end;
    be.event_record = event_mark;
    be.event_wait = event_await;
    be.elapsed = event_elapsed;
    be.sync = stream_sync;
    be.zero = zero_bytes;
    be.copy = copy_bytes;
    be.upload = upload_bytes;
    be.download = download_bytes;
    be.host_work = work_queue;
    be.device_work = library_queue;
    be.poll = work_poll;
    be.algorithms = algorithms_text;
    be.use_algorithms = algorithms_use;
    be.prepare = [](bool on) { preparing = on; };
    be.graph_begin = graph_begin;
    be.graph_end = graph_end;
    be.graph_run = run_graph;
    be.graph_free = graph_free;
#define X(op) be.op = issue_##op;
    BACKEND_OPS(X)
#undef X
    return be;
}

const struct backend *cuda_open(int device)
{
    static struct backend be;
    static struct backend_device taken;
    if (device_take(device, &taken) < 0 || products_open() < 0)
        return NULL;
    be = table();
    be.device = &taken;
    return &be;
}
