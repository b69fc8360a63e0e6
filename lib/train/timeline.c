/* SPDX-License-Identifier: MIT */
#include "train/timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"

enum { NAMED_STREAMS = 16 };

/* An operation of a step. Its events are kept for a later step. */
struct timed {
    const char *what, *group;
    struct stream *s;
    int64_t bytes;
    struct event *from, *to;
};

/* A step's. */
struct record {
    int64_t step;
    struct event *origin; /* when the step began, at offset_s after the file's time */
    double offset_s;
    struct timed *stretches;
    int64_t count, room;
};

struct timeline {
    const struct backend *inner;
    struct backend be; /* the same, recording */
    struct output out;
    int64_t first, last;
    bool recording;
    double opened_s;
    /* What a step queues may be done in the next, as buckets of weights are gathered beside its forward: so
     * what was recorded of a step is written when the step after it has ended. */
    struct record record[2], *now; /* of which `now` is this step's, and the other the last one's */
    struct {
        const struct stream *s;
        const char *name;
    } streams[NAMED_STREAMS];
};

static struct timeline *open_one; /* the functions of a backend have no other way to it */

/* ---- recording ---- */

static struct timed *begin(struct timeline *t, struct stream *s, const char *what)
{
    struct record *k = t->now;
    if (k->count == k->room) {
        int64_t room = k->room ? 2 * k->room : 1024;
        k->stretches = xrealloc(k->stretches, (size_t)room, sizeof *k->stretches);
        for (; k->room < room; k->room++)
            k->stretches[k->room] = (struct timed){.from = t->inner->event_new(), .to = t->inner->event_new()};
    }
    struct timed *p = &k->stretches[k->count++];
    p->what = what;
    p->group = NULL;
    p->s = s;
    p->bytes = 0;
    t->inner->event_record(p->from, s);
    return p;
}

static void end(const struct timeline *t, const struct timed *p, struct stream *s)
{
    t->inner->event_record(p->to, s);
}

#define X(name)                                                                                                \
    static void recorded_##name(struct stream *s, const struct name *op)                                       \
    {                                                                                                          \
        struct timeline *t = open_one;                                                                         \
        struct timed *p = t->recording ? begin(t, s, #name) : NULL;                                            \
        t->inner->name(s, op);                                                                                 \
        if (p)                                                                                                 \
            end(t, p, s);                                                                                      \
    }
BACKEND_OPS(X)
#undef X

static void recorded_zero(struct stream *s, void *dst, size_t bytes)
{
    struct timeline *t = open_one;
    struct timed *p = t->recording ? begin(t, s, "zero") : NULL;
    t->inner->zero(s, dst, bytes);
    if (p)
        end(t, p, s);
}

static void recorded_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
    struct timeline *t = open_one;
    struct timed *p = t->recording ? begin(t, s, "copy") : NULL;
    t->inner->copy(s, dst, src, bytes);
    if (p)
        end(t, p, s);
}

static void recorded_work(struct stream *s, struct host_work *w)
{
    struct timeline *t = open_one;
    struct timed *p = t->recording ? begin(t, s, w->what) : NULL;
    if (p)
        p->group = w->group;
    for (int i = 0; p && i < w->count; i++) /* what it sends, or what it receives if it sends nothing */
        if (w->ranges[i].access == w->ranges[0].access)
            p->bytes += (int64_t)w->ranges[i].bytes;
    t->inner->host_work(s, w);
    if (p)
        end(t, p, s);
}

static void recorded_device_work(struct stream *s, struct device_work *w)
{
    struct timeline *t = open_one;
    struct timed *p = t->recording ? begin(t, s, w->what) : NULL;
    if (p) {
        p->group = w->group;
        p->bytes = (int64_t)w->bytes;
    }
    t->inner->device_work(s, w);
    if (p)
        end(t, p, s);
}

/* ---- the file ---- */

static int parse(struct timeline *t, const char *spec, const char **path)
{
    const char *colon = strchr(spec, ':'), *dash = strchr(spec, '-');
    char text[64] = "";
    bool ok = colon && colon[1] && colon - spec < (int)sizeof text;
    if (ok)
        memcpy(text, spec, (size_t)(colon - spec));
    bool two = ok && dash && dash < colon;
    if (two)
        text[dash - spec] = '\0';
    ok = ok && parse_int(text, 1, INT64_MAX, &t->first);
    t->last = t->first;
    ok = ok && (!two || parse_int(text + (dash - spec) + 1, t->first, INT64_MAX, &t->last));
    *path = ok ? colon + 1 : NULL;
    return ok ? 0 : error(STATUS_USAGE, "--timeline '%s': A-B:FILE is wanted, with steps 1 <= A <= B", spec);
}

static int write_line(struct timeline *t, json_t *o)
{
    int r = json_dumpf(o, t->out.stream, JSON_COMPACT | JSON_REAL_PRECISION(16));
    json_decref(o);
    if (r == 0 && fputc('\n', t->out.stream) != EOF)
        return 0;
    return error_errno("cannot write '%s'", t->out.path ? t->out.path : "-");
}

static int write_head(struct timeline *t, int rank, int world)
{
    struct timespec now;
    char host[HOST_NAME];
    clock_gettime(CLOCK_REALTIME, &now);
    t->opened_s = now_s();
    process_host(host);
    return write_line(t,
                      json_pack("{s:s,s:i,s:i,s:i,s:o,s:f}", "kind", "timeline", timeline_format.key,
                                timeline_format.version, "rank", rank, "ranks", world, "host", json_bytes(host),
                                "unix_s", (double)now.tv_sec + 1e-9 * (double)now.tv_nsec));
}

static void release_records(struct timeline *t)
{
    for (struct record *k = t->record; k < t->record + 2; k++) {
        for (int64_t i = 0; i < k->room; i++) {
            t->inner->event_free(k->stretches[i].from);
            t->inner->event_free(k->stretches[i].to);
        }
        t->inner->event_free(k->origin);
        free(k->stretches);
    }
}

struct timeline *timeline_open(const char *spec, const struct backend *be, int rank, int world)
{
    struct timeline *t = xcalloc(1, sizeof *t);
    const char *path;
    *t = (struct timeline){.inner = be, .be = *be, .now = t->record};
    for (int i = 0; i < 2; i++)
        t->record[i].origin = be->event_new();
    int r = parse(t, spec, &path);
    char *own = r == 0 && world > 1 ? xasprintf("%s.%d", path, rank) : NULL;
    if (r == 0)
        r = output_open(&t->out, own ? own : path);
    free(own);
    if (r == 0 && (r = write_head(t, rank, world)) < 0)
        output_abandon(&t->out);
    if (r < 0) {
        release_records(t);
        free(t);
        return NULL;
    }
#define X(name) t->be.name = recorded_##name;
    BACKEND_OPS(X)
#undef X
    t->be.zero = recorded_zero;
    t->be.copy = recorded_copy;
    t->be.host_work = recorded_work;
    if (be->device_work)
        t->be.device_work = recorded_device_work;
    t->be.graph_begin = NULL; /* an operation by itself is what is to be seen */
    return open_one = t;
}

const struct backend *timeline_backend(struct timeline *t)
{
    return &t->be;
}

bool timeline_records(const struct timeline *t, int64_t first, int64_t last)
{
    return t->first <= last && t->last >= first;
}

void timeline_name(struct timeline *t, const struct stream *s, const char *name)
{
    int i = 0;
    while (i < NAMED_STREAMS - 1 && t->streams[i].s)
        i++;
    t->streams[i].s = s;
    t->streams[i].name = name;
}

static const char *name_of(const struct timeline *t, const struct stream *s)
{
    for (int i = 0; i < NAMED_STREAMS && t->streams[i].s; i++)
        if (t->streams[i].s == s)
            return t->streams[i].name;
    return "other";
}

int timeline_group(struct timeline *t, const char *name, const int *ranks, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ranks[i]));
    return write_line(t, json_pack("{s:s,s:s,s:o}", "kind", "group", "group", name, "ranks", list));
}

int timeline_peer(struct timeline *t, const char *stream, int peer)
{
    return write_line(t, json_pack("{s:s,s:s,s:i}", "kind", "peer", "stream", stream, "rank", peer));
}

void timeline_begin(struct timeline *t, int64_t step, struct stream *s)
{
    struct record *k = t->now;
    t->recording = step >= t->first && step <= t->last;
    k->step = step;
    k->count = 0;
    k->offset_s = now_s() - t->opened_s;
    if (t->recording)
        t->inner->event_record(k->origin, s);
}

static int write_stretch(struct timeline *t, const struct record *k, const struct timed *p)
{
    double from = k->offset_s + t->inner->elapsed(k->origin, p->from),
           to = k->offset_s + t->inner->elapsed(k->origin, p->to);
    json_t *o = json_pack("{s:s,s:I,s:s,s:s,s:f,s:f}", "kind", "op", "step", (json_int_t)k->step, "stream",
                          name_of(t, p->s), "op", p->what, "start_s", from, "end_s", to);
    if (p->group)
        json_object_update_new(o, json_pack("{s:s,s:I}", "group", p->group, "bytes", (json_int_t)p->bytes));
    return write_line(t, o);
}

static int write_record(struct timeline *t, struct record *k)
{
    int r = 0;
    for (int64_t i = 0; i < k->count && r == 0; i++)
        r = write_stretch(t, k, &k->stretches[i]);
    k->count = 0;
    return r;
}

static struct record *other(struct timeline *t)
{
    return &t->record[t->now == t->record];
}

int timeline_end(struct timeline *t)
{
    int r = write_record(t, other(t));
    if (t->recording)
        t->now = other(t);
    t->recording = false;
    return r;
}

/* The last step's: there is none after it that waits for it all. */
static int write_last(struct timeline *t)
{
    struct record *k = other(t);
    const struct stream *settled = NULL;
    for (int64_t i = 0; i < k->count; i++) {
        if (k->stretches[i].s == settled)
            continue;
        TRY(t->inner->sync(k->stretches[i].s));
        settled = k->stretches[i].s;
    }
    return write_record(t, k);
}

int timeline_close(struct timeline *t)
{
    if (!t)
        return 0;
    int r = write_last(t);
    release_records(t);
    if (r < 0)
        output_abandon(&t->out);
    return r < 0 ? -1 : output_commit(&t->out);
}

void timeline_free(struct timeline *t)
{
    free(t);
    open_one = NULL;
}
