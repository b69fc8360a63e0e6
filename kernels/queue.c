/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/faults.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"
#include "failure.h"

/* A record of an event: shared by the event, by the task that will reach it, and by those that wait for it. */
struct point {
    int refs;
    bool reached;
    double at_s;
    struct stream *in;
};

struct event {
    struct point *latest; /* NULL: never recorded, which counts as happened */
    void *note;
};

enum task_kind { TASK_OP, TASK_COPY, TASK_ZERO, /* touch memory */ TASK_RECORD, TASK_WAIT, TASK_HOST };
struct task {
    struct task *next;
    enum task_kind kind;
    bool started; /* host work */
    union {
        struct {
            const struct queued_op *op;
            const void *args; /* in `data` */
        };
        struct point *point;
        struct host_work *work;
        struct {
            void *dst;
            const void *src; /* NULL: in `data` */
            size_t bytes;
        };
    };
    alignas(16) char data[]; /* the operation's struct, or what is uploaded */
};

struct stream {
    const struct queue_policy *policy;
    struct task *first, **last;
    int length;
    void *note;
    struct stream *next; /* of all streams */
};

static struct stream *streams;
static int tasks; /* in all of them */
static const struct queue_policy at_once;

/* ---- memory that is not always open ---- */

static const struct queue_policy *opened; /* whose memory is open; NULL: nobody's */

static void open_memory(const struct queue_policy *policy)
{
    if (policy->open && opened != policy)
        policy->open();
    opened = policy;
}

static void close_memory(void)
{
    if (opened && opened->close)
        opened->close();
    opened = NULL;
}

/* ---- tasks ---- */

static void point_drop(struct point *p)
{
    if (p && --p->refs == 0)
        free(p);
}

static void point_reach(struct point *p)
{
    p->reached = true;
    p->at_s = now_s();
}

static struct task *append(struct stream *s, enum task_kind kind, size_t data)
{
    struct task *t = xmalloc(sizeof *t + data);
    *t = (struct task){.kind = kind};
    *s->last = t;
    s->last = &t->next;
    s->length++;
    tasks++;
    return t;
}

/* The first task goes, done or dropped. */
static void pop(struct stream *s)
{
    struct task *t = s->first;
    s->first = t->next;
    if (!s->first)
        s->last = &s->first;
    s->length--;
    tasks--;
    if (t->kind == TASK_RECORD || t->kind == TASK_WAIT)
        point_drop(t->point);
    if (t->kind == TASK_HOST)
        t->work->release(t->work);
    free(t);
}

static void stage_in(const struct stream *s, struct host_work *w)
{
    for (int i = 0; i < w->count; i++) {
        struct host_range *r = &w->ranges[i];
        r->host = s->policy->staged ? xmalloc(r->bytes) : r->p;
        if (s->policy->staged && r->access & HOST_READ)
            memcpy(r->host, r->p, r->bytes);
    }
}

static void stage_out(const struct stream *s, struct host_work *w, bool done)
{
    for (int i = 0; i < w->count && s->policy->staged; i++) {
        struct host_range *r = &w->ranges[i];
        if (done && r->access & HOST_WRITE)
            memcpy(r->p, r->host, r->bytes);
        free(r->host);
        r->host = NULL;
    }
}

/* Host work has failed: nothing that was queued makes sense any more. */
static void drop_all(const struct queue_policy *policy)
{
    failure_set("%s", error_text());
    for (struct stream *s = streams; s; s = s->next) {
        while (s->policy == policy && s->first) {
            struct task *t = s->first;
            if (t->kind == TASK_RECORD)
                point_reach(t->point);
            if (t->kind == TASK_HOST && t->started)
                stage_out(s, t->work, false);
            pop(s);
        }
    }
}

/* Whether the work has got on. */
static bool advance_work(struct stream *s, struct task *t)
{
    struct host_work *w = t->work;
    bool begin = !t->started;
    if (begin) {
        open_memory(s->policy);
        stage_in(s, w);
    }
    t->started = true;
    close_memory();
    int r = begin ? w->start(w) : w->move(w);
    if (r < 0) {
        drop_all(s->policy);
    } else if (r > 0) {
        open_memory(s->policy);
        stage_out(s, w, true);
        pop(s);
    }
    return begin || r != 0;
}

queue_watcher *queue_watch;

static void run_op(const struct queued_op *kind, const void *op)
{
    double start = queue_watch ? now_s() : 0;
    kind->run(op);
    if (queue_watch)
        queue_watch(kind->name, op, now_s() - start);
}

/* By all threads: memory that is touched for the first time is cleared by the system on whoever touches it. */
static void clear(void *dst, size_t bytes)
{
    enum { PIECE = 4 << 20 };
    int64_t all = (int64_t)bytes;
#pragma omp parallel for schedule(static) if (all > PIECE)
    for (int64_t i = 0; i < all; i += PIECE)
        memset((char *)dst + i, 0, (size_t)min64(PIECE, all - i));
}

/* Does the first task of a stream that has any, unless it must wait. */
static bool advance(struct stream *s)
{
    struct task *t = s->first;
    alive();
    if (t->kind <= TASK_ZERO)
        open_memory(s->policy);
    switch (t->kind) {
    case TASK_OP:
        run_op(t->op, t->args);
        break;
    case TASK_COPY:
        memcpy(t->dst, t->src ? t->src : t->data, t->bytes);
        break;
    case TASK_ZERO:
        clear(t->dst, t->bytes);
        break;
    case TASK_RECORD:
        point_reach(t->point);
        break;
    case TASK_WAIT:
        if (!t->point->reached)
            return false;
        break;
    case TASK_HOST:
        return advance_work(s, t);
    }
    pop(s);
    return true;
}

/* ---- going through the streams ---- */

/* One task of the stream that the policy picks. */
static bool advance_picked(const struct queue_policy *policy)
{
    enum { MOST = 64 };
    struct stream *may[MOST];
    int count = 0;
    for (struct stream *s = streams; s && count < MOST; s = s->next)
        if (s->policy == policy && s->first)
            may[count++] = s;
    while (count > 0) {
        int i = policy->pick(count);
        if (advance(may[i]))
            return true;
        may[i] = may[--count];
    }
    return false;
}

/* A task of each stream. Whether any got on. */
static bool pass(const struct queue_policy *policy)
{
    if (policy->pick)
        return advance_picked(policy);
    bool moved = false;
    for (struct stream *s = streams; s; s = s->next)
        if (s->policy == policy && s->first)
            moved = advance(s) || moved;
    return moved;
}

/* The host work that a stream waits for in the end. NULL: none. */
static struct host_work *blocker(const struct stream *s)
{
    for (int i = 0; s && s->first && i < QUEUE_MOST; i++) {
        const struct task *t = s->first;
        if (t->kind == TASK_HOST)
            return t->work;
        s = t->kind == TASK_WAIT ? t->point->in : NULL;
    }
    return NULL;
}

/* Until the stream has no more than `most` tasks. */
static void drain(struct stream *s, int most)
{
    while (s->length > most) {
        while (s->length > most && pass(s->policy))
            ;
        close_memory();
        if (s->length <= most)
            return;
        struct host_work *w = blocker(s);
        if (!w)
            error(STATUS_ENV, "a stream waits for an event that comes after it");
        if (!w || w->await(w) < 0)
            drop_all(s->policy);
    }
}

/* Whether a task may run now instead of being queued; the policy's memory is then open. */
static bool begin_now(struct stream *s)
{
    const struct queue_policy *policy = s ? s->policy : &at_once;
    if (policy->lazy)
        return false;
    if (tasks)
        pass(policy);
    bool now = !s || !s->first;
    if (now)
        open_memory(policy);
    else
        close_memory();
    return now;
}

static void bound(struct stream *s)
{
    if (s->length > QUEUE_MOST)
        drain(s, QUEUE_MOST / 2);
}

/* ---- what is queued ---- */

void queue_op(struct stream *s, const struct queued_op *kind, const void *op)
{
    if (begin_now(s)) {
        run_op(kind, op);
        close_memory();
        return;
    }
    struct task *t = append(s, TASK_OP, kind->bytes);
    t->op = kind;
    t->args = left_out("operation-not-copied") ? op : memcpy(t->data, op, kind->bytes);
    bound(s);
}

static void queue_zero(struct stream *s, void *dst, size_t bytes)
{
    if (bytes == 0)
        return;
    if (begin_now(s)) {
        clear(dst, bytes);
        close_memory();
        return;
    }
    struct task *t = append(s, TASK_ZERO, 0);
    t->dst = dst;
    t->bytes = bytes;
    bound(s);
}

static void copy(struct stream *s, void *dst, const void *src, size_t bytes, bool keep)
{
    if (bytes == 0)
        return;
    if (begin_now(s)) {
        memcpy(dst, src, bytes);
        close_memory();
        return;
    }
    struct task *t = append(s, TASK_COPY, keep ? bytes : 0);
    t->dst = dst;
    t->src = keep ? NULL : src;
    t->bytes = bytes;
    if (keep)
        memcpy(t->data, src, bytes);
    bound(s);
}

static void queue_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
    copy(s, dst, src, bytes, false);
}

static void queue_upload(struct stream *s, void *dst, const void *host, size_t bytes)
{
    copy(s, dst, host, bytes, !left_out("upload-not-copied"));
}

static int queue_sync(struct stream *s)
{
    if (s)
        drain(s, 0);
    return failure_take();
}

static int queue_download(struct stream *s, void *host, const void *src, size_t bytes)
{
    if (s)
        drain(s, 0);
    const struct queue_policy *policy = s ? s->policy : &at_once;
    open_memory(policy);
    if (bytes)
        memcpy(host, src, bytes);
    close_memory();
    return failure_take();
}

/* Without a stream: now. */
static void work_now(struct host_work *w)
{
    struct stream none = {.policy = &at_once};
    stage_in(&none, w);
    int r = w->start(w);
    while (r == 0 && (r = w->move(w)) == 0)
        if (w->await(w) < 0)
            r = -1;
    if (r < 0)
        failure_set("%s", error_text());
    w->release(w);
}

static void queue_host_work(struct stream *s, struct host_work *w)
{
    if (!s) {
        work_now(w);
        return;
    }
    append(s, TASK_HOST, 0)->work = w;
    if (!s->policy->lazy)
        pass(s->policy);
    close_memory();
    bound(s);
}

static int queue_poll(void)
{
    for (const struct stream *s = streams; tasks && s; s = s->next) {
        if (!s->first)
            continue;
        while (pass(s->policy))
            ;
        close_memory();
    }
    return failure_take();
}

/* ---- streams and events ---- */

struct stream *queue_stream_new(const struct queue_policy *policy)
{
    struct stream *s = xcalloc(1, sizeof *s), **at = &streams;
    s->policy = policy ? policy : &at_once;
    s->last = &s->first;
    while (*at)
        at = &(*at)->next;
    *at = s;
    return s;
}

void **queue_stream_note(struct stream *s)
{
    return &s->note;
}

void **queue_event_note(struct event *e)
{
    return &e->note;
}

static struct stream *stream_new(void)
{
    return queue_stream_new(NULL);
}

static void stream_free(struct stream *s)
{
    if (!s)
        return;
    drain(s, 0);
    struct stream **at = &streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}

/* On the host they take what they need. */
static void stream_scratch(struct stream *s, void *p, size_t bytes)
{
}

static struct event *event_new(void)
{
    return xcalloc(1, sizeof(struct event));
}

static void event_free(struct event *e)
{
    if (e)
        point_drop(e->latest);
    free(e);
}

static void event_record(struct event *e, struct stream *s)
{
    struct point *p = e->latest;
    if (!p || p->refs > 1) {
        point_drop(p);
        p = e->latest = xmalloc(sizeof *p);
    }
    *p = (struct point){.refs = 1, .in = s};
    if (begin_now(s)) {
        point_reach(p);
        close_memory();
        return;
    }
    append(s, TASK_RECORD, 0)->point = p;
    p->refs++;
    bound(s);
}

static void event_wait(struct stream *s, struct event *e)
{
    struct point *p = e->latest;
    if (!p || p->reached)
        return;
    if (!s) {
        drain(p->in, 0);
        return;
    }
    append(s, TASK_WAIT, 0)->point = p;
    p->refs++;
    bound(s);
}

static double elapsed(const struct event *from, const struct event *to)
{
    return to->latest->at_s - from->latest->at_s;
}

static char *no_algorithms(void)
{
    return NULL;
}
static int use_no_algorithms(const char *text)
{
    return 0;
}

void queue_install(struct backend *be)
{
    be->stream_new = stream_new;
    be->stream_free = stream_free;
    be->stream_scratch = stream_scratch;
    be->event_new = event_new;
    be->event_free = event_free;
    be->event_record = event_record;
    be->event_wait = event_wait;
    be->elapsed = elapsed;
    be->sync = queue_sync;
    be->zero = queue_zero;
    be->copy = queue_copy;
    be->upload = queue_upload;
    be->download = queue_download;
    be->host_work = queue_host_work;
    be->poll = queue_poll;
    be->algorithms = no_algorithms;
    be->use_algorithms = use_no_algorithms;
}
