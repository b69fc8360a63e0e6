/* SPDX-License-Identifier: MIT */
/* So a whole step can be rehearsed before the first, with the very operands that it will have. */
#include <string.h>

#include "backend.h"

static const struct backend *real; /* the functions of a backend have no other way to it */

/* ---- nothing is done ---- */

#define X(name)                                                                                                \
    static void rehearse_##name(struct stream *s, const struct name *p)                                        \
    {                                                                                                          \
    }
BACKEND_OPS(X)
#undef X

static void record(struct event *e, struct stream *s)
{
}

static void wait(struct stream *s, struct event *e)
{
}

static void zero(struct stream *s, void *dst, size_t bytes)
{
}

static void copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
}

static int download(struct stream *s, void *host, const void *src, size_t bytes)
{
    memset(host, 0, bytes);
    return 0;
}

static void host_work(struct stream *s, struct host_work *w)
{
    w->release(w);
}

static void device_work(struct stream *s, struct device_work *w)
{
    w->release(w);
}

/* ---- but this ---- */

static void matmul(struct stream *s, const struct matmul *p)
{
    real->prepare_matmul(p);
}

void backend_rehearsal(struct backend *rehearsal, const struct backend *be)
{
    real = be;
    *rehearsal = *be;
#define X(name) rehearsal->name = rehearse_##name;
    BACKEND_OPS(X)
#undef X
    rehearsal->matmul = matmul;
    rehearsal->event_record = record;
    rehearsal->event_wait = wait;
    rehearsal->zero = zero;
    rehearsal->copy = copy;
    rehearsal->upload = copy;
    rehearsal->download = download;
    rehearsal->host_work = host_work;
    if (be->device_work)
        rehearsal->device_work = device_work;
    rehearsal->graph_begin = NULL;
}
