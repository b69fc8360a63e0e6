/* SPDX-License-Identifier: MIT */
/* The table of the cuda backend, its memory, streams and events. */
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "open.h"

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

/* ---- streams and events ---- */

struct event {
    cudaEvent_t cuda;
};

static struct stream *new_stream(void)
{
    struct stream *s = static_cast<struct stream *>(xcalloc(1, sizeof *s));
    cuda_keep(cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking), "making a stream");
    return s;
}

static void free_stream(struct stream *s)
{
    if (!s)
        return;
    cudaStreamSynchronize(s->cuda); /* what it still has to do needs the memory below */
    staging_release(&s->staging);
    cudaFree(s->scratch);
    cudaStreamDestroy(s->cuda);
    free(s);
}

static struct event *new_event(void)
{
    struct event *e = static_cast<struct event *>(xcalloc(1, sizeof *e));
    cuda_keep(cudaEventCreateWithFlags(&e->cuda, cudaEventDefault), "making an event"); /* with its time */
    return e;
}

static void free_event(struct event *e)
{
    if (e)
        cudaEventDestroy(e->cuda);
    free(e);
}

static void record_event(struct event *e, struct stream *s)
{
    cuda_keep(cudaEventRecord(e->cuda, s->cuda), "recording an event");
}

static void wait_for_event(struct stream *s, struct event *e)
{
    cuda_keep(cudaStreamWaitEvent(s->cuda, e->cuda, 0), "waiting for an event");
}

static int sync_stream(struct stream *s)
{
    cuda_keep(cudaStreamSynchronize(s->cuda), "an operation failed");
    return failure_take();
}

/* ---- copies ---- */

static void zero_bytes(struct stream *s, void *dst, size_t bytes)
{
    if (bytes)
        cuda_keep(cudaMemsetAsync(dst, 0, bytes, s->cuda), "zeroing");
}

static void copy_bytes(struct stream *s, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        cuda_keep(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->cuda), "copying");
}

static void upload_bytes(struct stream *s, void *dst, const void *host, size_t bytes)
{
    staging_upload(&s->staging, s->cuda, dst, host, bytes);
}

static int download_bytes(struct stream *s, void *host, const void *src, size_t bytes)
{
    staging_download(&s->staging, s->cuda, host, src, bytes);
    return sync_stream(s);
}

static void *map_bytes(struct stream *s, void *p, size_t bytes, enum host_access access)
{
    void *host = xmalloc(bytes + 1);
    if (access & HOST_READ)
        staging_download(&s->staging, s->cuda, host, p, bytes);
    cuda_keep(cudaStreamSynchronize(s->cuda), "an operation failed");
    return host;
}

static void unmap_bytes(struct stream *s, void *p, size_t bytes, enum host_access access, void *host)
{
    if (access & HOST_WRITE)
        staging_upload(&s->staging, s->cuda, p, host, bytes);
    free(host);
}

/* ---- the table ---- */

static struct backend table(void)
{
    struct backend be = {};
    be.name = "cuda";
    be.alloc = alloc_device;
    be.free = free_device;
    be.stream_new = new_stream;
    be.stream_free = free_stream;
    be.event_new = new_event;
    be.event_free = free_event;
    be.event_record = record_event;
    be.event_wait = wait_for_event;
    be.sync = sync_stream;
    be.zero = zero_bytes;
    be.copy = copy_bytes;
    be.upload = upload_bytes;
    be.download = download_bytes;
    be.host_map = map_bytes;
    be.host_unmap = unmap_bytes;
#define X(op) be.op = cuda_##op;
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
