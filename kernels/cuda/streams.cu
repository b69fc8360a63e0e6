/* SPDX-License-Identifier: MIT */
#include "streams.h"

#include <sched.h>
#include <vector>

#include "library.h"
#include "pinned.h"
#include "queue.h"

extern "C" {
#include "base/alive.h"
}

/* An event's records are numbered from 1. A wait is for the latest at the time of the call; what the device
 * then waits for may be a later one, which is no circle: a record goes to the device after all that it
 * depends on. */
struct event {
    cudaEvent_t cuda;
    int64_t recorded, issued; /* the latest record that was asked for, and that went to the device */
    struct stream *in;        /* where it was asked for */
    int users;                /* its owner, and what is kept */
};

/* Host work whose turn has come. */
enum work_phase { WORK_NEW, WORK_COPYING, WORK_MOVING };
struct host_job {
    struct host_work *work;
    enum work_phase phase;
    std::vector<struct pinned *> memory; /* a range each */
    cudaEvent_t copied;                  /* what the work reads is in it */
};

/* What is kept: host work, a wait for an event's record, or anything else. They are used again. */
struct kept {
    struct kept *next = nullptr;
    std::function<void()> issue;   /* of all but host work and waits */
    struct event *event = nullptr; /* of a wait: for its record of this number */
    int64_t record = 0;
    struct host_job *job = nullptr;
};

static struct stream *streams, *aside;
static int kept_count; /* in all of them */
static struct kept *spare;

/* ---- host work ---- */

static void copy_in(struct stream *s, struct host_job *j)
{
    for (int i = 0; i < j->work->count; i++) {
        struct host_range *r = &j->work->ranges[i];
        struct pinned *m = pinned_take(r->bytes);
        j->memory.push_back(m);
        r->host = m ? pinned_bytes(m) : NULL;
        if (m && r->access & HOST_READ && r->bytes)
            cuda_keep(cudaMemcpyAsync(r->host, r->p, r->bytes, cudaMemcpyDeviceToHost, s->cuda),
                      "copying for the host");
    }
    cuda_keep(cudaEventCreateWithFlags(&j->copied, cudaEventDisableTiming), "making an event");
    cuda_keep(cudaEventRecord(j->copied, s->cuda), "recording an event");
    j->phase = WORK_COPYING;
}

static void copy_out(struct stream *s, struct host_job *j)
{
    for (int i = 0; i < j->work->count; i++) {
        struct host_range *r = &j->work->ranges[i];
        if (r->access & HOST_WRITE && r->bytes)
            cuda_keep(cudaMemcpyAsync(r->p, r->host, r->bytes, cudaMemcpyHostToDevice, s->cuda),
                      "copying from the host");
    }
}

static void end_job(struct stream *s, struct host_job *j)
{
    for (struct pinned *m : j->memory)
        pinned_return(m, s->cuda);
    if (j->phase != WORK_NEW)
        cudaEventDestroy(j->copied);
    j->work->release(j->work);
    delete j;
}

static bool lacks_memory(const struct host_job *j)
{
    for (struct pinned *m : j->memory)
        if (!m)
            return true;
    return false;
}

/* 1: done; 0: not yet; -1: failed, error() is set. *moved: whether it got on. */
static int advance_job(struct stream *s, struct host_job *j, bool *moved)
{
    if (j->phase == WORK_NEW) {
        copy_in(s, j);
        *moved = true;
        if (lacks_memory(j))
            return error(STATUS_ENV, "no page-locked memory for communication");
    }
    int r = 0;
    if (j->phase == WORK_COPYING) {
        cudaError_t e = cudaEventQuery(j->copied);
        if (e == cudaErrorNotReady)
            return 0;
        if (e != cudaSuccess) {
            cuda_keep(e, "copying for the host");
            return failure_take();
        }
        j->phase = WORK_MOVING;
        *moved = true;
        r = j->work->start(j->work);
    } else {
        r = j->work->move(j->work);
    }
    if (r > 0)
        copy_out(s, j);
    return r;
}

/* ---- what is kept ---- */

static struct kept *new_kept(void)
{
    struct kept *k = spare;
    if (!k)
        return new kept;
    spare = k->next;
    k->next = nullptr;
    return k;
}

static void keep(struct stream *s, struct kept *k)
{
    *s->last = k;
    s->last = &k->next;
    s->kept++;
    kept_count++;
}

static void pop(struct stream *s)
{
    struct kept *k = s->first;
    s->first = k->next;
    if (!s->first)
        s->last = &s->first;
    s->kept--;
    kept_count--;
    if (k->job)
        end_job(s, k->job);
    if (k->event)
        event_end(k->event);
    *k = kept();
    k->next = spare;
    spare = k;
}

/* Host work has failed: nothing that was queued makes sense any more. */
static void drop_all(void)
{
    failure_set("%s", error_text());
    for (struct stream *s = streams; s; s = s->next)
        while (s->first)
            pop(s);
}

/* Does the first of what is kept, unless it must wait. Whether it got on. */
static bool advance(struct stream *s)
{
    struct kept *k = s->first;
    bool moved = false;
    if (k->job) {
        int r = advance_job(s, k->job, &moved);
        if (r < 0)
            drop_all();
        else if (r > 0)
            pop(s);
        return moved || r != 0;
    }
    if (k->event && k->event->issued < k->record)
        return false;
    if (k->event)
        cuda_keep(cudaStreamWaitEvent(s->cuda, k->event->cuda, 0), "waiting for an event");
    else
        k->issue();
    pop(s);
    return true;
}

static bool pass(void)
{
    bool moved = false;
    for (struct stream *s = streams; s; s = s->next)
        while (s->first && advance(s))
            moved = true;
    return moved;
}

/* The host work that a stream waits for in the end. NULL: none. */
static struct host_job *blocker(const struct stream *s)
{
    for (int i = 0; s && s->first && i < 1000; i++) {
        if (s->first->job)
            return s->first->job;
        s = s->first->event ? s->first->event->in : NULL;
    }
    return NULL;
}

/* Until no more than `most` of s are kept. */
static void drain(struct stream *s, int most)
{
    while (s->kept > most) {
        alive();
        if (pass() || s->kept <= most)
            continue;
        struct host_job *j = blocker(s);
        if (j && j->phase == WORK_COPYING) { /* the device's turn */
            sched_yield();
            continue;
        }
        if (!j)
            error(STATUS_ENV, "a stream waits for an event that comes after it");
        if (!j || j->work->await(j->work) < 0)
            drop_all();
    }
}

/* Something has been kept of s. */
static void bound(struct stream *s)
{
    pass();
    if (s->kept > QUEUE_MOST)
        drain(s, QUEUE_MOST / 2);
}

bool stream_clear(struct stream *s)
{
    if (s->capturing)
        return true;
    if (kept_count > 0)
        pass();
    return !s->first;
}

void stream_issue(struct stream *s, std::function<void()> issue)
{
    if (stream_clear(s)) {
        issue();
        return;
    }
    struct kept *k = new_kept();
    k->issue = std::move(issue);
    keep(s, k);
    bound(s);
}

void stream_finish(struct stream *s)
{
    drain(s, 0);
    cuda_keep(
        library_await([s] { return cudaStreamQuery(s->cuda); }, [s] { return cudaStreamSynchronize(s->cuda); }),
        "waiting for the device");
}

int stream_sync(struct stream *s)
{
    if (s)
        stream_finish(s);
    return failure_take();
}

void work_queue(struct stream *to, struct host_work *w)
{
    struct stream *s = to ? to : stream_aside();
    struct kept *k = new_kept();
    k->job = new host_job{w, WORK_NEW, {}, NULL};
    keep(s, k);
    bound(s);
    if (!to)
        stream_finish(s);
}

int work_poll(void)
{
    while (pass())
        ;
    library_check();
    return failure_take();
}

/* ---- streams and events ---- */

struct stream *stream_make(void)
{
    struct stream *s = static_cast<struct stream *>(xcalloc(1, sizeof *s)), **at = &streams;
    cuda_keep(cudaStreamCreateWithFlags(&s->cuda, cudaStreamNonBlocking), "making a stream");
    s->last = &s->first;
    while (*at)
        at = &(*at)->next;
    return *at = s;
}

struct stream *stream_aside(void)
{
    return aside = aside ? aside : stream_make();
}

void stream_end(struct stream *s)
{
    if (!s)
        return;
    drain(s, 0);
    library_await([s] { return cudaStreamQuery(s->cuda); }, [s] { return cudaStreamSynchronize(s->cuda); });
    library_end(s); /* what it still had to do needed the memory below */
    struct stream **at = &streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    staging_release(&s->staging);
    if (s->owns_scratch)
        cudaFree(s->scratch);
    cudaStreamDestroy(s->cuda);
    free(s);
}

struct stream *stream_first(void)
{
    return streams;
}

struct event *event_make(void)
{
    struct event *e = static_cast<struct event *>(xcalloc(1, sizeof *e));
    cuda_keep(cudaEventCreateWithFlags(&e->cuda, cudaEventDefault), "making an event"); /* with its time */
    e->users = 1;
    return e;
}

void event_end(struct event *e)
{
    if (!e || --e->users > 0)
        return;
    cudaEventDestroy(e->cuda);
    free(e);
}

void event_mark(struct event *e, struct stream *to)
{
    struct stream *s = to ? to : stream_aside();
    int64_t number = ++e->recorded;
    e->in = s;
    e->users++;
    stream_issue(s, [e, number, s] {
        cuda_keep(cudaEventRecord(e->cuda, s->cuda), "recording an event");
        e->issued = number;
        event_end(e);
    });
}

void event_await(struct stream *s, struct event *e)
{
    if (e->recorded == 0 || fault("event-wait"))
        return; /* counts as happened */
    if (!s) {
        if (e->issued < e->recorded)
            drain(e->in, 0);
        cuda_keep(library_await([e] { return cudaEventQuery(e->cuda); },
                                [e] { return cudaEventSynchronize(e->cuda); }),
                  "waiting for an event");
        return;
    }
    struct kept *k = new_kept();
    k->event = e;
    k->record = e->recorded;
    e->users++;
    keep(s, k);
    bound(s);
}

double event_elapsed(const struct event *from, const struct event *to)
{
    float ms = 0;
    cuda_keep(cudaEventElapsedTime(&ms, from->cuda, to->cuda), "timing");
    return ms * 1e-3;
}
