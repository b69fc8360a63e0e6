/* SPDX-License-Identifier: MIT */
#include "ckpt/save_write.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/manifest.h"
#include "tensors/sum.h"

/* Two threads beside the walk, which helps when it waits. */
enum { HANDS = 3 };

/* A unit to write, unless it is the end; and before that, a file that gets no more (-1: none). */
struct write_job {
    struct crew_job job;
    struct slot *slot;
    int ended;
    bool end;
};

/* ---- the crew: files ---- */

static int open_file(struct writer *w, int file)
{
    struct written_file *f = &w->files[file];
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    if (f->fd < 0) {
        char *path = path_join(w->dir, w->l->files[file].name);
        f->fd = open(path, O_WRONLY | O_CLOEXEC);
        rc = f->fd < 0 ? error_errno("cannot write '%s'", path) : 0;
        f->direct = rc == 0 ? open(path, O_WRONLY | O_CLOEXEC | O_DIRECT) : -1;
        free(path);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static void close_both(struct written_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->direct >= 0)
        close(f->direct);
    f->fd = f->direct = -1;
}

/* Synced through the descriptor that wrote to the page cache: another one need not hear of an error. What went
 * past the cache is on the disk, or had its error. */
static int sync_file(struct writer *w, int file)
{
    struct written_file *f = &w->files[file];
    const char *name = w->l->files[file].name;
    int rc = open_file(w, file);
    if (rc == 0)
        rc = file_sync(f->fd, name);
    rc = file_close(f->fd, rc, name);
    f->fd = -1;
    close_both(f);
    return rc;
}

/* One unit less that is on its way to a file, or none that will come: who sees the last of it syncs it. */
static int let_file(struct writer *w, int file, int units, bool ended)
{
    struct written_file *f = &w->files[file];
    pthread_mutex_lock(&w->lock);
    f->units -= units;
    f->ended = f->ended || ended;
    bool last = f->ended && f->units == 0;
    pthread_mutex_unlock(&w->lock);
    return last ? sync_file(w, file) : 0;
}

/* Those that another descriptor alone wrote to: their headers. */
static int sync_touched(struct writer *w)
{
    for (int f = 0; f < w->l->file_count; f++)
        if (w->touched[f] && !w->files[f].used)
            TRY(sync_file(w, f));
    return 0;
}

/* ---- the crew: units ---- */

static void note_range(struct writer *w, struct range range)
{
    pthread_mutex_lock(&w->lock);
    if (w->range_count == w->range_room) {
        w->range_room = w->range_room ? 2 * w->range_room : 256;
        w->ranges = xrealloc(w->ranges, w->range_room, sizeof *w->ranges);
    }
    w->ranges[w->range_count++] = range;
    pthread_mutex_unlock(&w->lock);
}

/* What was written of one entry, cut where the manifest's ranges end. */
static void note_segment(struct writer *w, const struct slot *t, const struct segment *x)
{
    int64_t begin = x->row * row_bytes(w->l, &w->l->entries[x->entry]);
    for (int64_t done = 0, n; done < x->bytes; done += n) {
        n = min64(x->bytes - done, RANGE_BYTES - (begin + done) % RANGE_BYTES);
        uint32_t crc = sum_bytes(0, t->bytes + x->at + done, n);
        note_range(w, (struct range){.entry = x->entry, .crc32 = crc, .begin = begin + done, .bytes = n});
    }
}

static int write_slot(struct writer *w, const struct slot *t)
{
    const struct unit *n = &t->unit;
    const struct written_file *f = &w->files[n->file];
    for (int i = 0; i < n->count; i++)
        note_segment(w, t, &n->segments[i]);
    TRY(open_file(w, n->file));
    TRY(pwrite_direct(f->fd, f->direct, t->bytes, (size_t)n->bytes, n->offset, w->l->files[n->file].name));
    return let_file(w, n->file, 1, false);
}

static int do_job(struct writer *w, const struct write_job *j)
{
    if (j->ended >= 0)
        TRY(let_file(w, j->ended, 0, true));
    return j->end ? sync_touched(w) : write_slot(w, j->slot);
}

static int write_one(void *with, void *job, int hand)
{
    struct writer *w = with;
    if (atomic_load(&w->failing) || do_job(w, job) == 0)
        return 0;
    atomic_store(&w->failing, true);
    return error_prefix("%s", w->dir);
}

/* ---- the walk's side ---- */

void writer_start(struct writer *w, struct ring *ring, const struct ckpt_map *l, const char *dir,
                  const bool *touched)
{
    *w = (struct writer){.l = l, .dir = dir, .touched = touched, .file = -1};
    w->files = xcalloc(l->file_count, sizeof *w->files);
    for (int f = 0; f < l->file_count; f++)
        w->files[f].fd = w->files[f].direct = -1;
    pthread_mutex_init(&w->lock, NULL);
    w->crew = crew_start(HANDS, ring->count, sizeof(struct write_job), write_one, w);
    for (int i = 0; i < ring->count; i++)
        ((struct write_job *)crew_job(w->crew, i))->slot = &ring->slots[i];
}

/* The next job that is done. */
static bool take_back(struct writer *w)
{
    const struct write_job *j = crew_wait(w->crew);
    if (j && j->job.failed && !w->failed) {
        w->failed = true;
        w->status = error_status();
        snprintf(w->text, sizeof w->text, "%s", error_text());
    }
    if (j)
        crew_free(w->crew);
    return j;
}

/* A job that comes after all of the last one's file, if it is of another one. */
static struct write_job *next_job(struct writer *w, int file)
{
    struct write_job *j;
    while (!(j = crew_slot(w->crew)))
        take_back(w);
    j->ended = file != w->file ? w->file : -1;
    w->file = file;
    return j;
}

struct slot *writer_take(struct writer *w, const struct unit *unit)
{
    struct slot *t = next_job(w, unit->file)->slot;
    struct segment *segments = t->unit.segments;
    int room = t->unit.room;
    if (room < unit->count) {
        room = unit->room;
        segments = xrealloc(segments, room, sizeof *segments);
    }
    memcpy(segments, unit->segments, unit->count * sizeof *segments);
    t->unit = *unit;
    t->unit.segments = segments;
    t->unit.room = room;
    slot_room(t);
    pthread_mutex_lock(&w->lock);
    w->files[unit->file].used = true;
    w->files[unit->file].units++;
    pthread_mutex_unlock(&w->lock);
    return t;
}

void writer_give(struct writer *w)
{
    crew_submit(w->crew);
}

void writer_close(struct writer *w)
{
    next_job(w, -1)->end = true;
    crew_submit(w->crew);
    w->closed = true;
}

bool writer_done(struct writer *w)
{
    return w->closed && crew_idle(w->crew);
}

int writer_join(struct writer *w)
{
    if (!w->crew)
        return 0;
    while (w->closed && take_back(w))
        ;
    crew_stop(w->crew);
    return w->failed ? error(w->status, "%s", w->text) : 0;
}

void writer_release(struct writer *w)
{
    if (!w->crew)
        return;
    crew_release(w->crew);
    for (int f = 0; f < w->l->file_count; f++)
        close_both(&w->files[f]);
    pthread_mutex_destroy(&w->lock);
    free(w->files);
    free(w->ranges);
    *w = (struct writer){0};
}
