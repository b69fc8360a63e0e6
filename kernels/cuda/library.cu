/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <deque>
#include <sched.h>
#include <vector>

#include "streams.h"

extern "C" {
#include "base/alive.h"
}

struct mark {
    struct device_work *work;
    int64_t number; /* in the order in which work went to the device */
    bool begun;
    cudaEvent_t begin, end;
};
/* Of a stream, in order. */
struct marks {
    std::deque<struct mark> list;
};

static std::vector<cudaEvent_t> spare;
static int64_t issued;
static int under_way; /* in all streams */
static bool failed;
static struct device_work *awaited; /* whose await() was called last, unless it rests */

static cudaEvent_t take_event(void)
{
    cudaEvent_t e = NULL;
    if (spare.empty()) {
        cuda_keep(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "making an event");
        return e;
    }
    e = spare.back();
    spare.pop_back();
    return e;
}

static void rest(void)
{
    if (awaited)
        awaited->rest(awaited);
    awaited = NULL;
}

static void drop_first(struct marks *m)
{
    struct mark first = m->list.front();
    m->list.pop_front();
    under_way--;
    spare.push_back(first.begin);
    spare.push_back(first.end);
    if (awaited == first.work)
        rest();
    first.work->release(first.work);
}

static void drop_done(struct stream *s)
{
    while (s->marks && !s->marks->list.empty() &&
           cudaEventQuery(s->marks->list.front().end) != cudaErrorNotReady)
        drop_first(s->marks);
}

/* error() is set. Nothing that is under way makes sense any more, nor need it ever end. */
static void fail(void)
{
    failure_set("%s", error_text());
    failed = true;
    for (struct stream *s = stream_first(); s; s = s->next)
        while (s->marks && !s->marks->list.empty())
            drop_first(s->marks);
}

static void issue(struct stream *s, struct device_work *w)
{
    struct mark m = {w, ++issued, false, take_event(), take_event()};
    if (!s->marks)
        s->marks = new marks;
    drop_done(s);
    cuda_keep(cudaEventRecord(m.begin, s->cuda), "recording an event");
    bool refused = failed || w->issue(w, s->cuda) < 0;
    cuda_keep(cudaEventRecord(m.end, s->cuda), "recording an event");
    s->marks->list.push_back(m);
    under_way++;
    if (failed)
        drop_first(s->marks);
    else if (refused)
        fail();
}

void library_queue(struct stream *s, struct device_work *w)
{
    stream_issue(s, [=] { issue(s, w); });
}

/* What has begun and is not done, the oldest of all streams; NULL if there is none. */
static struct device_work *begun(void)
{
    struct mark *oldest = NULL;
    for (struct stream *s = stream_first(); s; s = s->next) {
        drop_done(s);
        if (!s->marks || s->marks->list.empty())
            continue;
        struct mark *m = &s->marks->list.front();
        m->begun = m->begun || cudaEventQuery(m->begin) != cudaErrorNotReady;
        if (m->begun && (!oldest || m->number < oldest->number))
            oldest = m;
    }
    return oldest ? oldest->work : NULL;
}

void library_check(void)
{
    for (struct stream *s = stream_first(); s && !failed; s = s->next) {
        drop_done(s);
        if (s->marks && !s->marks->list.empty()) {
            struct device_work *w = s->marks->list.front().work;
            if (w->check(w) < 0)
                fail();
        }
    }
}

cudaError_t library_await(const std::function<cudaError_t()> &query, const std::function<cudaError_t()> &block)
{
    while (under_way > 0) {
        cudaError_t e = query();
        if (e != cudaErrorNotReady) {
            rest();
            return e;
        }
        alive();
        struct device_work *w = begun();
        if (w != awaited)
            rest();
        if (!w) { /* the device computes */
            sched_yield();
            continue;
        }
        awaited = w;
        if (w->await(w) < 0)
            fail();
    }
    rest();
    return failed ? cudaSuccess : block();
}

void library_end(struct stream *s)
{
    while (s->marks && !s->marks->list.empty())
        drop_first(s->marks);
    delete s->marks;
    s->marks = NULL;
}
