/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <deque>
#include <sched.h>
#include <vector>

#include "streams.h"

extern "C" {
#include "base/alive.h"
}

/* Around one piece of work, or around a graph that has some within. */
struct mark {
    struct device_work *work;  /* NULL: a graph's, */
    const library_works *some; /* which are these */
    int64_t number;            /* in the order in which work went to the device */
    bool begun;
    cudaEvent_t begin, end;
};
/* Of a stream, in order. */
struct marks {
    std::deque<struct mark> list;
    int *reached;           /* of the graph that runs: see reach() */
    library_works captured; /* of the graph that is being made */
};

static std::vector<cudaEvent_t> spare;
static int64_t issued;
static int under_way; /* in all streams */
static bool failed;
static struct device_work *awaited; /* whose await() was called last, unless it rests, */
static int64_t awaited_number;      /* and the mark that it was in */

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
    if (awaited_number == first.number)
        rest();
    if (first.work)
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

static struct marks *marks_of(struct stream *s)
{
    s->marks = s->marks ? s->marks : new marks();
    return s->marks;
}

/* give(), which gives the stream the mark's work, between the mark's two events. */
static void issue_marked(struct stream *s, struct mark m, const std::function<bool()> &give)
{
    m.number = ++issued;
    m.begin = take_event();
    m.end = take_event();
    struct marks *marks = marks_of(s);
    drop_done(s);
    cuda_keep(cudaEventRecord(m.begin, s->cuda), "recording an event");
    bool refused = failed || !give();
    cuda_keep(cudaEventRecord(m.end, s->cuda), "recording an event");
    marks->list.push_back(m);
    under_way++;
    if (failed)
        drop_first(marks);
    else if (refused)
        fail();
}

/* ---- within graphs ---- */

/* An event within a graph tells the host nothing. So a graph writes how far it is to memory of the host: 2i+1
 * when its work i begins, 2i+2 when that is done. Graphs of a stream run one at a time, and the last word of
 * each is even. */
__global__ static void reach(int *reached, int where)
{
    *reached = where;
    __threadfence_system();
}

static void capture(struct stream *s, struct device_work *w)
{
    struct marks *m = s->marks;
    int begin = 2 * static_cast<int>(m->captured.size()) + 1;
    launch(reach, 1, 1, 0, s->cuda, m->reached, begin);
    bool refused = failed || w->issue(w, s->cuda) < 0;
    launch(reach, 1, 1, 0, s->cuda, m->reached, begin + 1);
    m->captured.push_back(w);
    if (refused && !failed)
        fail();
}

void library_capture(struct stream *s)
{
    struct marks *m = marks_of(s);
    void *word = NULL;
    if (m->reached)
        return;
    cuda_keep(cudaHostAlloc(&word, sizeof *m->reached, cudaHostAllocMapped), "allocating page-locked memory");
    m->reached = static_cast<int *>(word);
    if (word)
        *m->reached = 0;
}

library_works library_captured(struct stream *s)
{
    library_works works;
    works.swap(s->marks->captured);
    return works;
}

void library_launch(struct stream *s, const library_works *some, const std::function<void()> &give)
{
    if (some->empty())
        give();
    else if (!failed)
        issue_marked(s, {NULL, some, 0, false, NULL, NULL}, [&] {
            give();
            return true;
        });
}

void library_release(library_works *some)
{
    for (struct stream *s = stream_first(); s; s = s->next) {
        drop_done(s);
        for (size_t i = 0; s->marks && i < s->marks->list.size(); i++)
            if (s->marks->list[i].some == some) /* they are let go without an end */
                s->marks->list[i].some = NULL;
    }
    for (struct device_work *w : *some)
        w->release(w);
    some->clear();
}

bool library_failed(void)
{
    return failed;
}

/* ---- all that is under way ---- */

void library_queue(struct stream *s, struct device_work *w)
{
    stream_issue(s, [=] {
        if (s->capturing)
            capture(s, w);
        else
            issue_marked(s, {w, NULL, 0, false, NULL, NULL}, [=] { return w->issue(w, s->cuda) == 0; });
    });
}

/* What of a mark that has begun is under way: NULL while a graph computes. */
static struct device_work *current(const struct stream *s, const struct mark *m)
{
    if (m->work || !m->some)
        return m->work;
    int reached = *static_cast<const volatile int *>(s->marks->reached); /* the device writes it */
    size_t i = static_cast<size_t>(reached / 2);
    return reached % 2 && i < m->some->size() ? (*m->some)[i] : NULL;
}

/* What has begun and is not done, the oldest of all streams, and its mark's number; NULL if there is none. */
static struct device_work *begun(int64_t *number)
{
    struct device_work *oldest = NULL;
    for (struct stream *s = stream_first(); s; s = s->next) {
        drop_done(s);
        if (!s->marks || s->marks->list.empty())
            continue;
        struct mark *m = &s->marks->list.front();
        m->begun = m->begun || cudaEventQuery(m->begin) != cudaErrorNotReady;
        struct device_work *w = m->begun && (!oldest || m->number < *number) ? current(s, m) : NULL;
        if (w) {
            oldest = w;
            *number = m->number;
        }
    }
    return oldest;
}

static void check(struct device_work *w)
{
    if (!failed && w->check(w) < 0)
        fail();
}

void library_check(void)
{
    for (struct stream *s = stream_first(); s && !failed; s = s->next) {
        drop_done(s);
        if (!s->marks || s->marks->list.empty())
            continue;
        const struct mark m = s->marks->list.front();
        if (m.work)
            check(m.work);
        for (size_t i = 0; m.some && i < m.some->size() && !failed; i++)
            if (i == 0 || (*m.some)[i]->group != (*m.some)[i - 1]->group) /* one tells of its group */
                check((*m.some)[i]);
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
        int64_t number = 0;
        struct device_work *w = begun(&number);
        if (w != awaited || number != awaited_number)
            rest();
        if (!w) { /* the device computes */
            sched_yield();
            continue;
        }
        awaited = w;
        awaited_number = number;
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
    if (s->marks && s->marks->reached)
        cudaFreeHost(s->marks->reached);
    delete s->marks;
    s->marks = NULL;
}
