/* SPDX-License-Identifier: MIT */
#include "ckpt/save_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"
#include "ckpt/manifest.h"
#include "tensors/sum.h"

/* ---- the thread: one file at a time ---- */

/* A file system without it has nothing to start or to wait for; fsync() does it all at the end. */
static int write_back(struct writer *w, int64_t offset, int64_t bytes, unsigned flags)
{
    if (sync_file_range(w->fd, offset, bytes, flags) == 0 || errno == ENOSYS || errno == EINVAL ||
        errno == ESPIPE || errno == EOPNOTSUPP)
        return 0;
    return error_errno("cannot write '%s'", w->l->files[w->fd_file].name);
}

/* Waits for what was written last to be on the disk, so that no more than a unit is ever outstanding. */
static int settle(struct writer *w)
{
    int64_t bytes = w->settling_bytes;
    w->settling_bytes = 0;
    return bytes ? write_back(w, w->settling, bytes,
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)
                 : 0;
}

/* Synced through the descriptor that wrote: another one need not hear of an error. */
static int close_file(struct writer *w)
{
    if (w->fd < 0)
        return 0;
    const char *name = w->l->files[w->fd_file].name;
    int rc = settle(w);
    if (rc == 0)
        rc = file_sync(w->fd, name);
    if (close(w->fd) != 0 && rc == 0)
        rc = error_errno("cannot write '%s'", name);
    w->fd = w->fd_file = -1;
    return rc < 0 ? error_prefix("%s", w->dir) : 0;
}

static int open_file(struct writer *w, int file)
{
    if (w->fd_file == file)
        return 0;
    if (close_file(w) < 0)
        return -1;
    char *path = path_join(w->dir, w->l->files[file].name);
    w->fd = open(path, O_WRONLY | O_CLOEXEC);
    w->fd_file = w->fd < 0 ? -1 : file;
    int rc = w->fd < 0 ? error_errno("cannot write '%s'", path) : 0;
    free(path);
    return rc;
}

static void note_range(struct writer *w, struct range range)
{
    if (w->range_count == w->range_room) {
        w->range_room = w->range_room ? 2 * w->range_room : 256;
        w->ranges = xrealloc(w->ranges, w->range_room, sizeof *w->ranges);
    }
    w->ranges[w->range_count++] = range;
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
    if (open_file(w, n->file) < 0)
        return -1;
    int rc = pwrite_all(w->fd, t->bytes, n->bytes, n->offset, w->l->files[n->file].name);
    if (rc == 0)
        rc = write_back(w, n->offset, n->bytes, SYNC_FILE_RANGE_WRITE);
    if (rc == 0)
        rc = settle(w);
    if (rc < 0)
        return error_prefix("%s", w->dir);
    w->settling = n->offset;
    w->settling_bytes = n->bytes;
    for (int i = 0; i < n->count; i++)
        note_segment(w, t, &n->segments[i]);
    return 0;
}

/* Those that another descriptor wrote to: their headers. */
static int sync_touched(struct writer *w)
{
    int rc = 0;
    for (int f = 0; f < w->l->file_count && rc == 0; f++) {
        if (!w->touched[f])
            continue;
        char *path = path_join(w->dir, w->l->files[f].name);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        rc = fd < 0 ? error_errno("cannot write '%s'", path) : file_sync(fd, path);
        if (fd >= 0)
            close(fd);
        free(path);
    }
    return rc;
}

/* After the first failure units are let go unwritten: the walk goes on, as other ranks are in it. */
static void note_failure(struct writer *w, int rc)
{
    if (rc == 0 || w->failed)
        return;
    w->failed = true;
    w->status = error_status();
    snprintf(w->text, sizeof w->text, "%s", error_text());
}

/* The next unit to write, or NULL when no more will come. */
static struct slot *next_slot(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->written == w->given && !w->closed)
        pthread_cond_wait(&w->moved, &w->lock);
    struct slot *t = w->written < w->given ? &w->ring->slots[w->written % w->ring->count] : NULL;
    pthread_mutex_unlock(&w->lock);
    return t;
}

static void *write_all(void *arg)
{
    struct writer *w = arg;
    for (struct slot *t; (t = next_slot(w));) {
        if (!w->failed)
            note_failure(w, write_slot(w, t));
        pthread_mutex_lock(&w->lock);
        w->written++;
        pthread_cond_signal(&w->moved);
        pthread_mutex_unlock(&w->lock);
    }
    note_failure(w, close_file(w));
    if (!w->failed)
        note_failure(w, sync_touched(w));
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- the walk's side ---- */

int writer_start(struct writer *w, struct ring *ring, const struct ckpt_map *l, const char *dir,
                 const bool *touched)
{
    *w = (struct writer){.l = l, .dir = dir, .touched = touched, .ring = ring, .fd = -1, .fd_file = -1};
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&w->moved, &clock);
    pthread_condattr_destroy(&clock);
    errno = pthread_create(&w->thread, NULL, write_all, w);
    w->started = errno == 0;
    return w->started ? 0 : error_errno("cannot start a thread that writes the checkpoint");
}

/* With the lock held: a moment, at most, until something moves. */
static void wait_a_moment(struct writer *w)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&w->moved, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
    alive();
    pthread_mutex_lock(&w->lock);
}

struct slot *writer_take(struct writer *w, const struct unit *unit)
{
    pthread_mutex_lock(&w->lock);
    while (w->taken - w->written == w->ring->count)
        wait_a_moment(w);
    struct slot *t = &w->ring->slots[w->taken++ % w->ring->count];
    pthread_mutex_unlock(&w->lock);
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
    slot_room(t, unit->bytes);
    return t;
}

void writer_give(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->given++;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

void writer_close(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->closed = true;
    pthread_cond_signal(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

bool writer_done(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    bool done = w->done;
    pthread_mutex_unlock(&w->lock);
    return done;
}

int writer_join(struct writer *w)
{
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->closed = true;
        pthread_cond_signal(&w->moved);
        while (!w->done)
            wait_a_moment(w);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->moved);
        w->started = false;
    }
    return w->failed ? error(w->status, "%s", w->text) : 0;
}

void writer_release(struct writer *w)
{
    free(w->ranges);
    w->ranges = NULL;
    w->range_count = w->range_room = 0;
}
