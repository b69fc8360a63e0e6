/* SPDX-License-Identifier: MIT */
#include "late_order.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "failure.h"

/* A task that touched something. */
struct touch {
    const char *name; /* NULL: none */
    int stream;
    uint32_t number; /* in its stream, from 1 */
};

struct reader {
    struct reader *next;
    struct touch by;
};

/* Bytes that have the same past: from here to the next stretch, or to the end of the page. */
struct stretch {
    struct stretch *next;
    size_t from; /* in the page */
    struct touch writer;
    struct reader *readers; /* since then */
};

enum { PAGE = 4096 };
struct order_memory {
    struct order_memory *next;
    char *p;
    size_t bytes;
    struct stretch **pages; /* NULL: one untouched stretch */
};

static struct order_memory *memory;
static struct order_clock known[ORDER_STREAMS]; /* known[i].tasks[i]: how many it has had itself */
static bool in_use[ORDER_STREAMS];
static struct touch now; /* the task that is being queued */

static size_t page_count(const struct order_memory *m)
{
    return m->bytes / PAGE + 1;
}

/* ---- clocks ---- */

static void learn(struct order_clock *clock, const struct order_clock *other)
{
    for (int i = 0; i < ORDER_STREAMS; i++)
        if (clock->tasks[i] < other->tasks[i])
            clock->tasks[i] = other->tasks[i];
}

/* Whether a task that begins now in the stream comes after it. */
static bool after(int stream, const struct touch *m)
{
    return known[stream].tasks[m->stream] >= m->number;
}

int order_stream(void)
{
    for (int i = 1; i < ORDER_STREAMS; i++)
        if (!in_use[i]) {
            in_use[i] = true;
            return i;
        }
    failure_set("there are more than %d streams", ORDER_STREAMS - 1);
    return ORDER_HOST;
}

void order_stream_gone(int stream)
{
    order_sync(stream);
    in_use[stream] = false;
}

void order_task(int stream, const char *name)
{
    learn(&known[stream], &known[ORDER_HOST]);
    now = (struct touch){name, stream, ++known[stream].tasks[stream]};
}

void order_record(int stream, struct order_clock *event)
{
    learn(&known[stream], &known[ORDER_HOST]);
    *event = known[stream];
}

void order_wait(int stream, const struct order_clock *event)
{
    learn(&known[stream], event);
}

void order_sync(int stream)
{
    learn(&known[ORDER_HOST], &known[stream]);
}

/* ---- what is wrong ---- */

static const char *describe(const struct touch *m, char text[static 96])
{
    if (m->stream == ORDER_HOST)
        snprintf(text, 96, "'%s' of the host", m->name);
    else
        snprintf(text, 96, "'%s' in stream %d", m->name, m->stream);
    return text;
}

static void unordered(const struct order_memory *m, size_t from, size_t to, const char *what,
                      const struct touch *other, const char *others)
{
    char mine[96], theirs[96];
    failure_set("%s %s bytes %zu to %zu of a block of %zu, which %s %s, and neither waits for the other",
                describe(&now, mine), what, from, to, m->bytes, describe(other, theirs), others);
}

static void unwritten(const struct order_memory *m, size_t from, size_t to)
{
    char mine[96];
    failure_set("%s reads bytes %zu to %zu of a block of %zu, which nothing has written", describe(&now, mine),
                from, to, m->bytes);
}

/* ---- stretches ---- */

static void free_readers(struct stretch *s)
{
    for (struct reader *r; (r = s->readers);) {
        s->readers = r->next;
        free(r);
    }
}

static void add_reader(struct stretch *s, const struct touch *by)
{
    struct reader *r = xmalloc(sizeof *r);
    *r = (struct reader){s->readers, *by};
    s->readers = r;
}

/* A stretch that begins at `at`, made of the one around it. */
static struct stretch *split(struct stretch *s, size_t at)
{
    struct stretch *right = xmalloc(sizeof *right);
    *right = (struct stretch){s->next, at, s->writer, NULL};
    for (const struct reader *r = s->readers; r; r = r->next)
        add_reader(right, &r->by);
    return s->next = right;
}

static size_t end_of(const struct stretch *s)
{
    return s->next ? s->next->from : PAGE;
}

/* What is read has been written, by a task that is known. */
static void read_stretch(const struct order_memory *m, size_t page, struct stretch *s, bool must_be_written)
{
    size_t from = page + s->from, to = page + end_of(s);
    if (!s->writer.name && must_be_written)
        unwritten(m, from, to);
    if (s->writer.name && !after(now.stream, &s->writer))
        unordered(m, from, to, "reads", &s->writer, "writes");
    for (struct reader **at = &s->readers, *r; (r = *at);) {
        if (after(now.stream, &r->by)) { /* who comes after this task comes after that one too */
            *at = r->next;
            free(r);
        } else {
            at = &r->next;
        }
    }
    add_reader(s, &now);
}

static void write_stretch(const struct order_memory *m, size_t page, struct stretch *s)
{
    size_t from = page + s->from, to = page + end_of(s);
    if (s->writer.name && !after(now.stream, &s->writer))
        unordered(m, from, to, "writes", &s->writer, "writes");
    for (const struct reader *r = s->readers; r; r = r->next)
        if (!after(now.stream, &r->by))
            unordered(m, from, to, "writes", &r->by, "reads");
    free_readers(s);
    s->writer = now;
}

/* The stretch that is written is one with those behind it up to `to`, which have been written too. */
static void join(struct stretch *s, size_t to)
{
    while (s->next && s->next->from < to) {
        struct stretch *right = s->next;
        s->next = right->next;
        free_readers(right);
        free(right);
    }
}

/* The rows of a matrix come in order: where the last one ended, for the next in the same page. */
struct drawn_place {
    struct stretch **page, *at;
};

/* Bytes [from,to) of a page. */
static void touch_page(struct order_memory *m, size_t page, size_t from, size_t to, bool write, bool bound,
                       struct drawn_place *cursor)
{
    struct stretch **head = &m->pages[page], *s;
    if (!*head)
        *head = xcalloc(1, sizeof **head);
    s = cursor->page == head && cursor->at->from <= from ? cursor->at : *head;
    while (end_of(s) <= from)
        s = s->next;
    if (s->from < from)
        s = split(s, from);
    struct stretch *first = s;
    for (; s && s->from < to; s = s->next) {
        if (end_of(s) > to)
            split(s, to);
        if (write)
            write_stretch(m, page * PAGE, s);
        else
            read_stretch(m, page * PAGE, s, !bound);
    }
    if (write)
        join(first, to);
    *cursor = (struct drawn_place){head, first};
}

static void touch_row(struct order_memory *m, size_t from, size_t to, bool write, bool bound,
                      struct drawn_place *cursor)
{
    for (size_t end; from < to; from = end) {
        size_t page = from / PAGE;
        end = (page + 1) * PAGE < to ? (page + 1) * PAGE : to;
        touch_page(m, page, from - page * PAGE, end - page * PAGE, write, bound, cursor);
    }
}

static struct order_memory *memory_at(const char *p, size_t bytes)
{
    for (struct order_memory *m = memory; m; m = m->next)
        if (p >= m->p && p + bytes <= m->p + m->bytes)
            return m;
    char mine[96];
    failure_set("%s touches %zu bytes that are not of device memory", describe(&now, mine), bytes);
    return NULL;
}

static bool touch(const struct access *a, bool write)
{
    struct drawn_place cursor = {0};
    for (size_t plane = 0; plane < a->planes; plane++)
        for (size_t r = 0; r < a->rows; r++) {
            const char *p = (const char *)a->p + plane * a->step + r * a->ld;
            struct order_memory *m = memory_at(p, a->width);
            if (!m)
                return false;
            touch_row(m, (size_t)(p - m->p), (size_t)(p - m->p) + a->width, write, a->bound, &cursor);
        }
    return true;
}

bool order_reads(const struct access *a)
{
    return !(a->kind & READ) || touch(a, false);
}

bool order_writes(const struct access *a)
{
    return !(a->kind & WRITE) || touch(a, true);
}

/* ---- memory ---- */

void order_block(void *p, size_t bytes)
{
    struct order_memory *m = xmalloc(sizeof *m);
    *m = (struct order_memory){memory, p, bytes, NULL};
    m->pages = xcalloc(page_count(m), sizeof *m->pages);
    memory = m;
}

static bool done(const struct stretch *s)
{
    bool all = !s->writer.name || after(ORDER_HOST, &s->writer);
    for (const struct reader *r = s->readers; r; r = r->next)
        all = all && after(ORDER_HOST, &r->by);
    return all;
}

bool order_block_gone(void *p)
{
    struct order_memory **at = &memory, *m;
    while (*at && (*at)->p != p)
        at = &(*at)->next;
    if (!(m = *at))
        return true;
    bool all = true;
    for (size_t i = 0; i < page_count(m); i++)
        for (struct stretch *s; (s = m->pages[i]);) {
            all = all && done(s);
            m->pages[i] = s->next;
            free_readers(s);
            free(s);
        }
    *at = m->next;
    free(m->pages);
    free(m);
    return all;
}
