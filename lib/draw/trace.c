/* SPDX-License-Identifier: MIT */
/* The format: github.com/google/perfetto, docs/getting-started/other-formats.md, and the document "Trace Event
 * Format". Times are microseconds with three decimals; all are whole nanoseconds here. Slices of a thread must
 * nest: what a clock made to overlap by a nanosecond is put behind what was before it. A flow is an arrow
 * through slices: `s` where it starts, `t` on its way, `f` where it ends, in the order of time, each at a time
 * within its slice. */
#include "draw/trace.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "draw/spans.h"

/* One rank's part of a collective, or one end of a message. */
struct trace_part {
    int64_t step, from_ns, to_ns;
    int32_t key, nth; /* who takes part, and which of their operations in the step */
    int32_t rank, thread;
    bool sends; /* the end of a message that it comes from */
    bool waits; /* the operation is over on no rank before it has begun on all */
};

struct key {
    char *name; /* group and members: the same text on all that take part */
    int32_t nth;
    int64_t step;
};

struct trace {
    FILE *out;
    struct trace_counts *c;
    double zero_s; /* the clock's time that is 0 in the trace */
    struct trace_part *parts;
    size_t part_count;
    struct key *keys;
    int key_count;
    struct {
        const char *members; /* of this file */
        int key;
    } known[SPAN_GROUPS + 1]; /* so that no name is compared for every operation */
    int known_count;
    bool begun;
};

/* ---- events ---- */

static void quoted(FILE *f, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:;>() ";
    if (!s[strspn(s, plain)]) {
        fprintf(f, "\"%s\"", s);
        return;
    }
    json_t *j = json_bytes(s);
    json_dumpf(j, f, JSON_ENCODE_ANY);
    json_decref(j);
}

/* Threads count from 1: Perfetto takes thread 0 for the process's main one, whatever its number is. */
static void event(struct trace *t, const char *ph, int rank, int thread)
{
    fprintf(t->out, "%s{\"ph\":\"%s\",\"pid\":%d,\"tid\":%d", t->begun ? ",\n" : "", ph, rank, thread + 1);
    t->begun = true;
}

static void at(struct trace *t, const char *key, int64_t ns)
{
    fprintf(t->out, ",\"%s\":%" PRId64 ".%03d", key, ns / 1000, (int)(ns % 1000));
}

static void metadata(struct trace *t, int rank, int thread, const char *what, const char *name, int order)
{
    event(t, "M", rank, thread);
    fprintf(t->out, ",\"name\":\"%s_name\",\"args\":{\"name\":", what);
    quoted(t->out, name);
    fputs("}}", t->out);
    event(t, "M", rank, thread);
    fprintf(t->out, ",\"name\":\"%s_sort_index\",\"args\":{\"sort_index\":%d}}", what, order);
}

static void slice(struct trace *t, int rank, int thread, const struct rank_span *s, int64_t from, int64_t to)
{
    event(t, "X", rank, thread);
    at(t, "ts", from);
    at(t, "dur", to - from);
    fputs(",\"name\":", t->out);
    quoted(t->out, s->op);
    fprintf(t->out, ",\"cat\":\"%s\",\"args\":{\"step\":%" PRId64, *s->group ? "communication" : "compute",
            s->step);
    if (*s->group) {
        fputs(",\"group\":", t->out);
        quoted(t->out, s->group);
        if (s->members) {
            fputs(",\"ranks\":", t->out);
            quoted(t->out, s->members);
        }
        fprintf(t->out, ",\"bytes\":%" PRId64, s->bytes);
    }
    fputs("}}", t->out);
}

/* ---- who belongs together ---- */

static int key_named(struct trace *t, const struct rank_span *s)
{
    char *name = xasprintf("%s %s", strchr(s->members, '>') ? "" : s->group, s->members);
    int i = 0;
    while (i < t->key_count && strcmp(t->keys[i].name, name) != 0)
        i++;
    if (i < t->key_count) {
        free(name);
        return i;
    }
    if ((i & (i + 1)) == 0)
        t->keys = xrealloc(t->keys, 2 * (size_t)i + 2, sizeof *t->keys);
    t->keys[t->key_count++] = (struct key){.name = name, .step = -1};
    return i;
}

/* The number of those who take part. */
static int key_of(struct trace *t, const struct rank_span *s)
{
    int i = 0;
    while (i < t->known_count && t->known[i].members != s->members)
        i++;
    if (i < t->known_count)
        return t->known[i].key;
    int key = key_named(t, s);
    if (i <= SPAN_GROUPS) {
        t->known[i].members = s->members;
        t->known[i].key = key;
        t->known_count++;
    }
    return key;
}

static void keep_part(struct trace *t, const struct rank_span *s, int rank, int64_t from, int64_t to)
{
    int index = key_of(t, s);
    struct key *k = &t->keys[index];
    if (k->step != s->step) {
        k->step = s->step;
        k->nth = 0;
    }
    size_t n = t->part_count;
    if ((n & (n + 1)) == 0)
        t->parts = xrealloc(t->parts, 2 * n + 2, sizeof *t->parts);
    t->parts[t->part_count++] = (struct trace_part){
        .step = s->step,
        .from_ns = from,
        .to_ns = to,
        .key = index,
        .nth = k->nth++,
        .rank = rank,
        .thread = s->stream + 1,
        .sends = strcmp(s->op, "send") == 0,
        .waits = strncmp(s->op, "all_", 4) == 0 || strcmp(s->op, "reduce_scatter") == 0,
    };
}

/* ---- a file ---- */

static void name_threads(struct trace *t, const struct span_file *f, int from)
{
    for (int i = from; i < f->stream_count; i++)
        metadata(t, f->rank, i + 1, "thread", f->stream[i], strcmp(f->stream[i], "compute") == 0 ? 1 : i + 2);
}

/* What goes on as a file is read. */
struct writing {
    struct span_file f;
    int64_t step, from, to;     /* the step that is being read */
    int64_t busy[SPAN_STREAMS]; /* until when each stream is */
    int named;                  /* streams that are */
};

/* Above a rank's streams: its steps. */
static void end_step(struct trace *t, struct writing *w)
{
    if (w->step < 0)
        return;
    event(t, "X", w->f.rank, 0);
    at(t, "ts", w->from);
    at(t, "dur", w->to - w->from);
    fprintf(t->out, ",\"name\":\"step %" PRId64 "\",\"cat\":\"step\"}", w->step);
    w->step = -1;
}

static void write_span(struct trace *t, struct writing *w, const struct rank_span *s)
{
    double offset = w->f.unix_s - t->zero_s;
    int64_t *busy = &w->busy[s->stream];
    int64_t from = max64(*busy, llround((offset + s->start_s) * 1e9)),
            to = max64(from + 1, llround((offset + s->end_s) * 1e9));
    *busy = to;
    if (w->step != s->step) {
        end_step(t, w);
        w->step = s->step;
        w->from = from;
        w->to = to;
    }
    w->from = min64(w->from, from);
    w->to = max64(w->to, to);
    name_threads(t, &w->f, w->named);
    w->named = w->f.stream_count;
    slice(t, w->f.rank, s->stream + 1, s, from, to);
    t->c->operations++;
    if (s->members)
        keep_part(t, s, w->f.rank, from, to);
    else if (*s->group)
        t->c->unlinked++;
}

static int write_file(struct trace *t, const char *path, int64_t first, int64_t last)
{
    struct writing w = {.step = -1};
    struct rank_span s;
    char name[128];
    int r;
    TRY(spans_open(&w.f, path));
    snprintf(name, sizeof name, "rank %d%s%s", w.f.rank, *w.f.host ? ", " : "", w.f.host);
    metadata(t, w.f.rank, 0, "process", name, w.f.rank);
    metadata(t, w.f.rank, 0, "thread", "steps", 0);
    t->known_count = 0;
    for (int i = 0; i < t->key_count; i++)
        t->keys[i].step = -1;
    while ((r = spans_next(&w.f, &s)) > 0)
        if (s.step >= first && s.step <= last)
            write_span(t, &w, &s);
    end_step(t, &w);
    t->c->skipped += w.f.skipped;
    spans_close(&w.f);
    return r;
}

/* ---- arrows ---- */

static int together(const struct trace_part *x, const struct trace_part *y)
{
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return (x->nth > y->nth) - (x->nth < y->nth);
}

static int in_order(const void *a, const void *b)
{
    const struct trace_part *x = a, *y = b;
    int c = together(x, y);
    if (c)
        return c;
    if (x->sends != y->sends)
        return x->sends ? -1 : 1;
    if (x->from_ns != y->from_ns)
        return x->from_ns < y->from_ns ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static bool is_message(const struct trace *t, const struct trace_part *p)
{
    return strchr(t->keys[p->key].name, '>') != NULL;
}

static int by_end(const void *a, const void *b)
{
    const struct trace_part *x = a, *y = b;
    return (x->to_ns > y->to_ns) - (x->to_ns < y->to_ns);
}

/* From the start of who came first (of a message: who sends it) to the ends of the others. False where clocks
 * differ so much that an arrow would go back in time. */
static bool write_flow(struct trace *t, struct trace_part *p, size_t n, int64_t id)
{
    int64_t begun = p[0].from_ns;
    for (size_t i = 1; i < n; i++)
        begun = max64(begun, p[i].from_ns);
    qsort(p + 1, n - 1, sizeof *p, by_end);
    if (p[0].waits) /* nobody is through before all have come */
        t->c->apart_s = fmax(t->c->apart_s, 1e-9 * (double)(begun - min64(p[0].to_ns, p[1].to_ns)));
    if (p[1].to_ns <= p[0].from_ns)
        return false;
    for (size_t i = 0; i < n; i++) {
        event(t, i == 0 ? "s" : i + 1 < n ? "t" : "f", p[i].rank, p[i].thread);
        at(t, "ts", i == 0 ? p[i].from_ns : p[i].to_ns - 1);
        fprintf(t->out, ",\"id\":%" PRId64 ",\"cat\":\"flow\",\"name\":\"%s\"%s}", id,
                is_message(t, p) ? "message" : "collective", i > 0 && i + 1 == n ? ",\"bp\":\"e\"" : "");
    }
    return true;
}

static void write_flows(struct trace *t)
{
    size_t n;
    if (t->part_count)
        qsort(t->parts, t->part_count, sizeof *t->parts, in_order);
    for (size_t i = 0; i < t->part_count; i += n) {
        for (n = 1; i + n < t->part_count && together(&t->parts[i], &t->parts[i + n]) == 0;)
            n++;
        if (n > 1 && write_flow(t, &t->parts[i], n, t->c->linked + 1))
            t->c->linked++;
        else
            t->c->unlinked += (int64_t)n;
    }
}

/* ---- the whole ---- */

static int write_events(struct trace *t, char *const *paths, int count, int64_t first, int64_t last)
{
    fputs("{\"displayTimeUnit\":\"ms\",\"otherData\":{\"producer\":\"moekit " VERSION "\"},\"traceEvents\":[\n",
          t->out);
    for (int i = 0; i < count; i++)
        TRY(write_file(t, paths[i], first, last));
    if (!t->c->operations && last == INT64_MAX)
        return error(STATUS_USAGE, "no operation is in '%s'%s", paths[0], count > 1 ? " or the others" : "");
    if (!t->c->operations)
        return error(STATUS_USAGE, "no operation of the steps %" PRId64 " to %" PRId64 " is in '%s'%s", first,
                     last, paths[0], count > 1 ? " or the others" : "");
    write_flows(t);
    fputs("\n]}\n", t->out);
    return 0;
}

int trace_write(FILE *out, char *const *paths, int count, int64_t first, int64_t last, struct trace_counts *c)
{
    struct trace t = {.out = out, .c = c};
    int ranks;
    *c = (struct trace_counts){0};
    TRY(spans_heads(paths, count, &t.zero_s, &ranks));
    c->ranks = count;
    c->missing = ranks - count;
    int r = write_events(&t, paths, count, first, last);
    for (int i = 0; i < t.key_count; i++)
        free(t.keys[i].name);
    free(t.keys);
    free(t.parts);
    return r;
}
