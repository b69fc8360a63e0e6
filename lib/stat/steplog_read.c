/* SPDX-License-Identifier: MIT */
/* Threads take pieces of a log in turn and read them each by itself; what they found is put together in the
 * order of the log, so that it does not matter who was first. */
#include "stat/steplog.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "stat/foreign.h"
#include "stat/records.h"

enum { MOST_THREADS = 16 };

/* A record of another kind than a step. */
struct other {
    json_t *record;
    size_t before; /* so many steps of the piece stand before it */
    size_t line;   /* of the piece, from 0 */
};

/* What one piece holds. */
struct found_records {
    struct step_record *steps;
    struct other *others;
    struct stage_memory *memory; /* [memories]: up to the first start record, from there to the second, … */
    size_t step_count, step_room, other_count, memories, lines, skipped;
    bool cut;
};

/* One log, read by several threads. */
struct log_reading {
    struct steplog *log;
    int source;
    const char *path;
    int64_t pieces, taken, merged; /* taken: by atomic operations */
    size_t lines;                  /* merged */
    pthread_mutex_t lock;
    pthread_cond_t turn;
    bool failed;
    int status;
    char *text; /* of the error */
};

/* ---- one piece ---- */

static void clear(struct found_records *f)
{
    f->step_count = f->other_count = f->memories = f->lines = f->skipped = 0;
    f->cut = false;
}

static struct stage_memory *new_memory(struct found_records *f)
{
    f->memory = xrealloc(f->memory, f->memories + 1, sizeof *f->memory);
    stage_memory_clear(&f->memory[f->memories]);
    return &f->memory[f->memories++];
}

static struct step_record *new_step(struct found_records *f)
{
    if (f->step_count == f->step_room) {
        f->step_room = f->step_room ? 2 * f->step_room : 256;
        f->steps = xrealloc(f->steps, f->step_room, sizeof *f->steps);
    }
    return &f->steps[f->step_count];
}

/* False when it is no record after all. */
static bool add_other(struct found_records *f, const char *text, size_t bytes)
{
    json_t *r = record_load(text, bytes);
    enum record_kind kind = record_kind(r);
    if (kind == RECORD_NONE || kind == RECORD_UNKNOWN) {
        json_decref(r);
        return kind == RECORD_UNKNOWN;
    }
    if ((f->other_count & (f->other_count + 1)) == 0)
        f->others = xrealloc(f->others, 2 * f->other_count + 2, sizeof *f->others);
    f->others[f->other_count++] = (struct other){r, f->step_count, f->lines};
    if (kind == RECORD_START)
        new_memory(f);
    return true;
}

static void read_line(struct found_records *f, const struct log_lines *l, const char *p, const char *end)
{
    const char *begin;
    bool garbage = false;
    for (;;) {
        struct step_record *r = new_step(f);
        enum scan_kind kind = scan_record(&p, end, &begin, r, &f->memory[f->memories - 1], &garbage);
        if (kind == SCAN_NOTHING)
            break;
        if (kind == SCAN_STEP) {
            r->at = l->at + (begin - l->text);
            f->step_count++;
        } else if (!add_other(f, begin, (size_t)(p - begin))) {
            garbage = true;
        }
    }
    f->skipped += garbage;
}

static void read_piece(struct found_records *f, const struct log_lines *l)
{
    clear(f);
    new_memory(f);
    for (const char *p = l->text, *end; p < l->text + l->bytes; p = end + 1, f->lines++) {
        end = memchr(p, '\n', (size_t)(l->text + l->bytes - p));
        read_line(f, l, p, end);
    }
    f->skipped += l->dropped;
    f->lines += l->dropped;
    f->cut = l->cut;
}

/* ---- all together ---- */

static void add_steps(struct steplog *log, int source, const struct found_records *f, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        f->steps[i].log = source;
        steplog_add_step(log, &f->steps[i]);
    }
}

static void add_memory(struct steplog *log, const struct stage_memory *m)
{
    for (int i = 0; i < m->count && log->segment_count; i++)
        stage_memory_add(&log->segments[log->segment_count - 1].memory, i, m->bytes[i], m->rank[i]);
}

/* What another thread's error was is told to this one by `text`. */
static int merge(struct log_reading *g, struct found_records *f)
{
    struct steplog *log = g->log;
    size_t done = 0, memory = 0;
    int r = 0;
    for (size_t i = 0; i < f->other_count; i++) {
        struct other *o = &f->others[i];
        add_steps(log, g->source, f, done, o->before);
        done = o->before;
        if (record_kind(o->record) == RECORD_START)
            add_memory(log, &f->memory[memory++]);
        if (r == 0)
            r = record_apply(log, o->record, g->path, g->lines + o->line + 1);
        json_decref(o->record);
    }
    add_steps(log, g->source, f, done, f->step_count);
    add_memory(log, &f->memory[memory]);
    log->skipped_lines += f->skipped;
    log->cut |= f->cut;
    g->lines += f->lines;
    return r;
}

static void fail(struct log_reading *g)
{
    if (!g->failed) {
        g->status = error_status();
        g->text = xstrdup(error_text());
    }
    g->failed = true;
}

static void drop(struct found_records *f)
{
    for (size_t i = 0; i < f->other_count; i++)
        json_decref(f->others[i].record);
}

static void release(struct found_records *f)
{
    free(f->steps);
    free(f->others);
    free(f->memory);
}

static void *read_pieces(void *arg)
{
    struct log_reading *g = arg;
    struct found_records f = {0};
    struct log_lines l = {0};
    int64_t i;
    while ((i = __atomic_fetch_add(&g->taken, 1, __ATOMIC_RELAXED)) < g->pieces) {
        int r = log_source_lines(&g->log->sources[g->source], i, &l);
        if (r == 0)
            read_piece(&f, &l);
        pthread_mutex_lock(&g->lock);
        while (g->merged != i && !g->failed)
            pthread_cond_wait(&g->turn, &g->lock);
        if (!g->failed && (r < 0 || merge(g, &f) < 0))
            fail(g);
        else if (g->failed && r == 0)
            drop(&f);
        g->merged++;
        pthread_cond_broadcast(&g->turn);
        bool stop = g->failed;
        pthread_mutex_unlock(&g->lock);
        if (stop)
            break;
    }
    release(&f);
    log_lines_release(&l);
    return NULL;
}

static int read_source(struct steplog *log, int source, int threads)
{
    pthread_t thread[MOST_THREADS];
    struct log_reading g = {.log = log,
                            .source = source,
                            .path = log->sources[source].path,
                            .pieces = ceil_div(log->sources[source].bytes, PIECE),
                            .lock = PTHREAD_MUTEX_INITIALIZER,
                            .turn = PTHREAD_COND_INITIALIZER};
    int n = 0, more = (int)min64(min64(threads, MOST_THREADS), g.pieces) - 1;
    while (n < more && pthread_create(&thread[n], NULL, read_pieces, &g) == 0)
        n++;
    read_pieces(&g);
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    if (g.failed)
        error(g.status, "%s", g.text);
    free(g.text);
    return g.failed ? -1 : 0;
}

int steplog_feed(struct steplog *log, const char *path, struct log_lines *l)
{
    struct log_reading g = {.log = log, .path = path};
    struct found_records f = {0};
    read_piece(&f, l);
    int r = merge(&g, &f);
    release(&f);
    return r;
}

int steplog_read(struct steplog *log, char *const *paths, int count, int threads)
{
    if (threads < 1)
        threads = (int)max64(1, sysconf(_SC_NPROCESSORS_ONLN));
    json_object_seed(0); /* before there are threads */
    log->sources = xcalloc((size_t)count + 1, sizeof *log->sources);
    for (int i = 0; i < count; i++) {
        TRY(log_source_open(&log->sources[i], paths[i]));
        log->source_count++;
        const struct trainer *trainer = foreign_detect(&log->sources[i]);
        TRY(trainer ? foreign_read(log, i, trainer) : read_source(log, i, threads));
    }
    return steplog_settle(log);
}
