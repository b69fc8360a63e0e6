/* SPDX-License-Identifier: MIT */
#include "immediate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "failure.h"

enum { PAGE = 4096, HUGE = 2 << 20 };

#ifdef __SANITIZE_ADDRESS__
/* From the heap, so that the sanitizer sees the ends. */
static void *immediate_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (size_t)round_up(max64((int64_t)bytes, 1), 64));
    if (!p) {
        error(STATUS_ENV, "out of memory: %zu bytes", bytes);
        return NULL;
    }
    return memset(p, 0, bytes);
}

static void immediate_free(void *p, size_t bytes)
{
    free(p);
}
#else
static void *immediate_alloc(size_t bytes)
{
    size_t mapped = (size_t)round_up(max64((int64_t)bytes, 1), PAGE);
    void *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        error_errno("cannot allocate %zu bytes", bytes);
        return NULL;
    }
    if (mapped >= HUGE)
        madvise(p, mapped, MADV_HUGEPAGE); /* only a hint */
    return p;
}

static void immediate_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, (size_t)round_up(max64((int64_t)bytes, 1), PAGE));
}
#endif

static struct stream *immediate_stream_new(void)
{
    return xcalloc(1, 1);
}

static void immediate_stream_free(struct stream *s)
{
    free(s);
}

static struct event *immediate_event_new(void)
{
    return xcalloc(1, 1);
}

static void immediate_event_free(struct event *e)
{
    free(e);
}

static void immediate_event_record(struct event *e, struct stream *s)
{
}

static void immediate_event_wait(struct stream *s, struct event *e)
{
}

static int immediate_sync(struct stream *s)
{
    return failure_take();
}

static void immediate_zero(struct stream *s, void *dst, size_t bytes)
{
    if (bytes)
        memset(dst, 0, bytes);
}

static void immediate_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        memcpy(dst, src, bytes);
}

static int immediate_download(struct stream *s, void *host, const void *src, size_t bytes)
{
    immediate_copy(s, host, src, bytes);
    return failure_take();
}

static void *immediate_map(struct stream *s, void *p, size_t bytes, enum host_access access)
{
    return p;
}

static void immediate_unmap(struct stream *s, void *p, size_t bytes, enum host_access access, void *host)
{
}

void immediate_install(struct backend *be)
{
    be->alloc = immediate_alloc;
    be->free = immediate_free;
    be->stream_new = immediate_stream_new;
    be->stream_free = immediate_stream_free;
    be->event_new = immediate_event_new;
    be->event_free = immediate_event_free;
    be->event_record = immediate_event_record;
    be->event_wait = immediate_event_wait;
    be->sync = immediate_sync;
    be->zero = immediate_zero;
    be->copy = immediate_copy;
    be->upload = immediate_copy;
    be->download = immediate_download;
    be->host_map = immediate_map;
    be->host_unmap = immediate_unmap;
}
