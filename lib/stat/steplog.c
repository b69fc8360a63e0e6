/* SPDX-License-Identifier: MIT */
/* Which records count is known only when the last start record has been read. So all wait in spools as they
 * come, and at the end what does not count is taken out. */
#include "stat/steplog.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

void steplog_init(struct steplog *log)
{
    *log = (struct steplog){.flops_per_token = NAN, .peak_flops = NAN, .kind = "moekit"};
    spool_init(&log->step_spool, sizeof(struct step_record));
    spool_init(&log->eval_spool, sizeof(struct log_event));
    spool_init(&log->save_spool, sizeof(struct log_event));
}

void steplog_release(struct steplog *log)
{
    spool_release(&log->step_spool);
    spool_release(&log->eval_spool);
    spool_release(&log->save_spool);
    spool_window_release(&log->step_window);
    spool_window_release(&log->eval_window);
    spool_window_release(&log->save_window);
    for (int i = 0; i < log->source_count; i++)
        log_source_close(&log->sources[i]);
    free(log->sources);
    free(log->segments);
    *log = (struct steplog){0};
}

const struct step_record *steplog_step(struct steplog *log, size_t i)
{
    return spool_read(&log->step_spool, &log->step_window, i);
}

const struct log_event *steplog_eval(struct steplog *log, size_t i)
{
    return spool_read(&log->eval_spool, &log->eval_window, i);
}

const struct log_event *steplog_save(struct steplog *log, size_t i)
{
    return spool_read(&log->save_spool, &log->save_window, i);
}

int steplog_error(const struct steplog *log)
{
    TRY(spool_error(&log->step_spool));
    TRY(spool_error(&log->eval_spool));
    return spool_error(&log->save_spool);
}

/* ---- what is added ---- */

struct log_segment *steplog_begin(struct steplog *log)
{
    int n = log->segment_count++;
    if ((n & (n + 1)) == 0)
        log->segments = xrealloc(log->segments, 2 * (size_t)n + 2, sizeof *log->segments);
    struct log_segment *s = &log->segments[n];
    *s = (struct log_segment){
        .from = -1, .flops_per_token = NAN, .peak_flops = NAN, .device_bytes = NAN, .predicted_bytes = NAN};
    return s;
}

/* The segment that what is read now belongs to. */
static int32_t current(struct steplog *log)
{
    if (!log->segment_count)
        steplog_begin(log);
    return log->segment_count - 1;
}

void steplog_add_step(struct steplog *log, const struct step_record *r)
{
    struct step_record copy = *r;
    copy.segment = current(log);
    spool_append(&log->step_spool, &copy);
}

static void add_event(struct steplog *log, struct spool *to, const struct log_event *e)
{
    struct log_event copy = *e;
    copy.segment = current(log);
    copy.order = to->count;
    spool_append(to, &copy);
}

void steplog_add_eval(struct steplog *log, const struct log_event *e)
{
    add_event(log, &log->eval_spool, e);
}

void steplog_add_save(struct steplog *log, const struct log_event *e)
{
    add_event(log, &log->save_spool, e);
}

/* ---- what counts ---- */

static int last_of(const json_t *runs, const char *run)
{
    const json_t *i = *run ? json_object_get(runs, run) : NULL;
    return i ? (int)json_integer_value(i) : -1;
}

/* The segment that each goes on from, or -1: the last one before it of its own run, which was started again
 * under its name; or else of the run that it names; or else the one before it. Caller frees. */
static int *parents(const struct steplog *log)
{
    int *parent = xmalloc(((size_t)log->segment_count + 1) * sizeof *parent);
    json_t *runs = json_object(); /* name: its last segment so far */
    for (int i = 0; i < log->segment_count; i++) {
        const struct log_segment *s = &log->segments[i];
        int own = last_of(runs, s->run), named = last_of(runs, s->parent);
        parent[i] = own >= 0 ? own : named >= 0 ? named : i - 1;
        if (*s->run)
            json_object_set_new_nocheck(runs, s->run, json_integer(i));
    }
    json_decref(runs);
    return parent;
}

static void trace_line(struct steplog *log)
{
    int64_t up_to = INT64_MAX;
    int *parent = parents(log);
    for (int i = 0; i < log->segment_count; i++) {
        log->segments[i].up_to = INT64_MIN;
        log->segments[i].count = 0;
    }
    for (int i = log->segment_count - 1; i >= 0; i = parent[i]) {
        log->segments[i].up_to = up_to;
        if (log->segments[i].from >= 0)
            up_to = min64(up_to, log->segments[i].from);
    }
    free(parent);
}

static bool event_counts(const struct steplog *log, const void *record)
{
    const struct log_event *e = record;
    int64_t up_to = log->segments[e->segment].up_to;
    return up_to != INT64_MIN && !(e->step > (double)up_to);
}

static bool step_counts(const struct steplog *log, const void *record)
{
    const struct step_record *r = record;
    return r->step <= log->segments[r->segment].up_to;
}

static int by_step(const void *a, const void *b)
{
    const struct step_record *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    if (x->log != y->log)
        return x->log < y->log ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static bool same_step(const void *a, const void *b)
{
    return ((const struct step_record *)a)->step == ((const struct step_record *)b)->step;
}

static int by_event(const void *a, const void *b)
{
    const struct log_event *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static bool same_event(const void *a, const void *b)
{
    return ((const struct log_event *)a)->step == ((const struct log_event *)b)->step;
}

/* How to find what counts of a spool. With `compare` it is put in order, and the last of equals is kept. */
struct choice {
    bool (*counts)(const struct steplog *log, const void *record);
    int (*compare)(const void *a, const void *b);
    bool (*same)(const void *a, const void *b);
    void (*lost)(struct steplog *log, const void *record);
};

/* Takes out what does not count; whether the rest is in order. */
static bool sift(struct steplog *log, struct spool *s, const struct choice *c)
{
    struct spool_window window = {0};
    bool ordered = true;
    size_t kept = 0;
    char *last = xcalloc(1, s->size);
    spool_flush(s);
    for (size_t i = 0; i < s->count; i++) {
        const void *record = spool_read(s, &window, i);
        if (!c->counts(log, record)) {
            if (c->lost)
                c->lost(log, record);
            continue;
        }
        if (c->compare && kept > 0 && (c->compare(last, record) >= 0 || c->same(last, record)))
            ordered = false;
        memcpy(last, record, s->size);
        if (kept++ != i)
            spool_write(s, kept - 1, last);
    }
    spool_truncate(s, kept);
    spool_window_release(&window);
    free(last);
    return ordered;
}

/* Of sorted records, the last of equals stay. */
static void unite(struct steplog *log, struct spool *s, const struct choice *c)
{
    struct spool_window window = {0};
    size_t kept = 0;
    char *last = xcalloc(1, s->size);
    for (size_t i = 0; i < s->count; i++) {
        const void *record = spool_read(s, &window, i);
        if (kept > 0 && c->same(last, record)) {
            if (c->lost)
                c->lost(log, last);
            kept--;
        }
        memcpy(last, record, s->size);
        spool_write(s, kept++, last);
    }
    spool_truncate(s, kept);
    spool_window_release(&window);
    free(last);
}

static void choose(struct steplog *log, struct spool *s, const struct choice *c)
{
    if (!sift(log, s, c)) {
        spool_sort(s, c->compare);
        unite(log, s, c);
    }
}

static void lose_step(struct steplog *log, const void *record)
{
    const struct step_record *r = record;
    log->abandoned++;
    if (r->time_s > 0 && r->time_s <= MAX_STEP_S)
        log->abandoned_s += r->time_s;
}

int steplog_settle(struct steplog *log)
{
    static const struct choice steps = {step_counts, by_step, same_step, lose_step};
    static const struct choice evals = {event_counts, by_event, same_event, NULL};
    static const struct choice saves = {event_counts, NULL, NULL, NULL};
    trace_line(log);
    choose(log, &log->step_spool, &steps);
    choose(log, &log->eval_spool, &evals);
    choose(log, &log->save_spool, &saves);
    log->count = log->step_spool.count;
    log->evals = log->eval_spool.count;
    log->saves = log->save_spool.count;
    for (size_t i = 0; i < log->count; i++)
        log->segments[steplog_step(log, i)->segment].count++;
    return steplog_error(log);
}
