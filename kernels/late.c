/* SPDX-License-Identifier: MIT */
/* The cpu backend, as late as it may be: for tests of what a GPU would not forgive.
 *
 * What is queued runs only when something waits for it, in one of the orders that are allowed, drawn at random
 * ($MOEKIT_LATE_SEED, or as the clock says). Device memory cannot be touched but by what runs, host work sees
 * copies, and whatever is queued is ordered or an error (late_order.h), on its first run and with any seed. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends.h"
#include "base/memory.h"
#include "base/notice.h"
#include "failure.h"
#include "late_memory.h"
#include "late_order.h"
#include "queue.h"

static struct backend queue; /* what is queued and how */
static uint64_t draws;

/* ---- streams and events ---- */

/* splitmix64 (Steele et al. 2014). */
static int pick(int count)
{
    uint64_t z = draws += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (int)((z ^ z >> 31) % (uint64_t)count);
}

static const struct queue_policy policy = {
    .lazy = true, .staged = true, .pick = pick, .open = late_open, .close = late_close};

static int number_of(struct stream *s)
{
    return s ? (int)(intptr_t)*queue_stream_note(s) : ORDER_HOST;
}

static struct stream *late_stream_new(void)
{
    struct stream *s = queue_stream_new(&policy);
    *queue_stream_note(s) = (void *)(intptr_t)order_stream();
    return s;
}

static void late_stream_free(struct stream *s)
{
    int number = number_of(s);
    queue.stream_free(s);
    if (number != ORDER_HOST)
        order_stream_gone(number);
}

static void late_event_free(struct event *e)
{
    if (e)
        free(*queue_event_note(e));
    queue.event_free(e);
}

static void late_event_record(struct event *e, struct stream *s)
{
    void **clock = queue_event_note(e);
    if (!*clock)
        *clock = xmalloc(sizeof(struct order_clock));
    order_record(number_of(s), *clock);
    queue.event_record(e, s);
}

static void late_event_wait(struct stream *s, struct event *e)
{
    const struct order_clock *clock = *queue_event_note(e);
    if (clock)
        order_wait(number_of(s), clock);
    queue.event_wait(s, e);
}

static int late_sync(struct stream *s)
{
    int r = queue.sync(s);
    order_sync(number_of(s));
    return r;
}

/* ---- memory ---- */

static void *late_new(size_t bytes)
{
    void *p = late_alloc(bytes);
    if (p)
        order_block(p, bytes);
    return p;
}

static void late_delete(void *p, size_t bytes)
{
    if (!p || order_block_gone(p))
        late_free(p);
    else /* it stays, for what is queued */
        failure_set("%zu bytes are freed that something in a stream may touch yet", bytes);
}

static void touch(const struct access_list *l)
{
    for (int i = 0; i < l->count; i++)
        order_reads(&l->list[i]);
    for (int i = 0; i < l->count; i++)
        order_writes(&l->list[i]);
}

/* Rows that are moved may have gaps that nobody writes, as those of a message have. */
static void add_moved(struct access_list *l, const void *p, size_t bytes)
{
    access_put(
        l, (struct access){
               .kind = READ, .bound = true, .p = (void *)(uintptr_t)p, .width = bytes, .rows = 1, .planes = 1});
}

static void add_bytes(struct access_list *l, enum access_kind kind, const void *p, size_t bytes)
{
    access_put(
        l, (struct access){.kind = kind, .p = (void *)(uintptr_t)p, .width = bytes, .rows = 1, .planes = 1});
}

/* Without a stream the queue opens no memory. */
static void open_now(struct stream *s)
{
    if (!s)
        late_open();
}

static void close_now(struct stream *s)
{
    if (!s)
        late_close();
}

static void late_zero(struct stream *s, void *dst, size_t bytes)
{
    struct access_list l = {0};
    add_bytes(&l, WRITE, dst, bytes);
    order_task(number_of(s), "zero");
    touch(&l);
    open_now(s);
    queue.zero(s, dst, bytes);
    close_now(s);
}

static void late_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
    struct access_list l = {0};
    add_moved(&l, src, bytes);
    add_bytes(&l, WRITE, dst, bytes);
    order_task(number_of(s), "copy");
    touch(&l);
    open_now(s);
    queue.copy(s, dst, src, bytes);
    close_now(s);
}

static void late_upload(struct stream *s, void *dst, const void *host, size_t bytes)
{
    struct access_list l = {0};
    add_bytes(&l, WRITE, dst, bytes);
    order_task(number_of(s), "upload");
    touch(&l);
    open_now(s);
    queue.upload(s, dst, host, bytes);
    close_now(s);
}

static int late_download(struct stream *s, void *host, const void *src, size_t bytes)
{
    struct access_list l = {0};
    add_bytes(&l, READ, src, bytes);
    order_task(number_of(s), "download");
    touch(&l);
    open_now(s);
    int r = queue.download(s, host, src, bytes);
    close_now(s);
    order_sync(number_of(s));
    return r;
}

static void late_host_work(struct stream *s, struct host_work *w)
{
    order_task(number_of(s), "host work");
    for (int pass = HOST_READ; pass <= HOST_WRITE; pass++)
        for (int i = 0; i < w->count; i++) {
            struct access_list l = {0};
            const struct host_range *r = &w->ranges[i];
            if (r->access & pass & HOST_READ)
                add_moved(&l, r->p, r->bytes);
            else if (r->access & pass)
                add_bytes(&l, WRITE, r->p, r->bytes);
            touch(&l);
        }
    open_now(s);
    queue.host_work(s, w);
    close_now(s);
}

/* ---- operations ---- */

static struct backend direct;

#define X(name)                                                                                                \
    QUEUED(direct, name)                                                                                       \
    static void late_##name(struct stream *s, const struct name *op)                                           \
    {                                                                                                          \
        struct access_list l = {0};                                                                            \
        access_##name(&l, op);                                                                                 \
        order_task(number_of(s), #name);                                                                       \
        touch(&l);                                                                                             \
        open_now(s);                                                                                           \
        queued_##name(s, op);                                                                                  \
        close_now(s);                                                                                          \
    }
BACKEND_OPS(X)
#undef X

static void seed(void)
{
    static bool seeded;
    const char *given = getenv("MOEKIT_LATE_SEED");
    if (seeded)
        return;
    seeded = true;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    draws = given && *given ? strtoull(given, NULL, 10) : (uint64_t)t.tv_nsec;
    notice("backend late: MOEKIT_LATE_SEED=%llu", (unsigned long long)draws);
}

const struct backend *late_backend(int device)
{
    static struct backend be;
    seed();
    direct = *cpu_direct();
    queue_install(&queue);
    be = queue;
    be.name = "late";
    be.alloc = late_new;
    be.free = late_delete;
    be.stream_new = late_stream_new;
    be.stream_free = late_stream_free;
    be.event_free = late_event_free;
    be.event_record = late_event_record;
    be.event_wait = late_event_wait;
    be.sync = late_sync;
    be.zero = late_zero;
    be.copy = late_copy;
    be.upload = late_upload;
    be.download = late_download;
    be.host_work = late_host_work;
#define X(name) be.name = late_##name;
    BACKEND_OPS(X)
#undef X
    return &be;
}
