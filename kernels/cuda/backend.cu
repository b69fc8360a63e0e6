/* SPDX-License-Identifier: MIT */
/* The table of the cuda backend, its memory and copies. */
#include <stdlib.h>
#include <vector>

#include "cuda.h"
#include "library.h"
#include "open.h"
#include "streams.h"

/* ---- failures ---- */

void cuda_keep(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    cudaGetLastError(); /* told here; the next call shall not be blamed for it */
    failure_set("cuda: %s: %s", what, device_trouble(e));
}

/* ---- memory ---- */

static void *alloc_device(size_t bytes)
{
    void *p = NULL;
    bytes = bytes ? bytes : 1;
    cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess) {
        size_t available = 0, all = 0;
        cudaGetLastError();
        if (e != cudaErrorMemoryAllocation || cudaMemGetInfo(&available, &all) != cudaSuccess)
            error(STATUS_ENV, "cannot allocate %zu bytes: %s", bytes, device_trouble(e));
        else
            error(STATUS_ENV, "the device has %zu of its %zu bytes free, and %zu are asked for", available, all,
                  bytes);
        return NULL;
    }
    e = cudaMemsetAsync(p, 0, bytes, NULL);
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(NULL);
    if (e == cudaSuccess)
        return p;
    error(STATUS_ENV, "cannot zero %zu bytes: %s", bytes, device_trouble(e));
    cudaFree(p);
    return NULL;
}

static void free_device(void *p, size_t)
{
    cuda_keep(cudaFree(p), "freeing memory");
}

void *cuda_scratch(struct stream *s, size_t bytes)
{
    if (bytes > CUDA_SCRATCH) {
        failure_set("cuda: an operation needs %zu bytes of scratch, and there are %zu", bytes, CUDA_SCRATCH);
        return NULL;
    }
    if (!s->scratch)
        cuda_keep(cudaMalloc(&s->scratch, CUDA_SCRATCH), "allocating a stream's scratch");
    return s->scratch;
}

/* ---- copies, in the order of streams.h ---- */

static void zero_bytes(struct stream *s, void *dst, size_t bytes)
{
    if (bytes)
        stream_issue(s, [=] { cuda_keep(cudaMemsetAsync(dst, 0, bytes, s->cuda), "zeroing"); });
}

static void copy_bytes(struct stream *s, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        stream_issue(s, [=] {
            cuda_keep(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->cuda), "copying");
        });
}

static void upload_bytes(struct stream *s, void *dst, const void *host, size_t bytes)
{
    if (stream_clear(s)) {
        staging_upload(&s->staging, s->cuda, dst, host, bytes);
        return;
    }
    std::vector<char> copy(static_cast<const char *>(host), static_cast<const char *>(host) + bytes);
    stream_issue(s, [=] { staging_upload(&s->staging, s->cuda, dst, copy.data(), bytes); });
}

static int download_bytes(struct stream *s, void *host, const void *src, size_t bytes)
{
    if (stream_sync(s) < 0)
        return -1;
    staging_download(&s->staging, s->cuda, host, src, bytes);
    return failure_take();
}

/* ---- the table ---- */

#define X(op)                                                                                                  \
    static void issue_##op(struct stream *s, const struct op *p)                                               \
    {                                                                                                          \
        if (stream_clear(s))                                                                                   \
            cuda_##op(s, p);                                                                                   \
        else                                                                                                   \
            stream_issue(s, [s, copy = *p] { cuda_##op(s, &copy); });                                          \
    }
BACKEND_OPS(X)
#undef X

static struct backend table(void)
{
    struct backend be = {};
    be.name = "cuda";
    be.alloc = alloc_device;
    be.free = free_device;
    be.stream_new = stream_make;
    be.stream_free = stream_end;
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
#define X(op) be.op = issue_##op;
    BACKEND_OPS(X)
#undef X
    return be;
}

const struct backend *cuda_open(int device)
{
    static struct backend be;
    if (device_take(device) < 0)
        return NULL;
    be = table();
    return &be;
}
