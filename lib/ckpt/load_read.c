/* SPDX-License-Identifier: MIT */
#include "ckpt/load_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "tensors/sum.h"

bool unit_next_cut(const struct catalog *c, const struct load_unit *unit, struct unit_cut *cut)
{
    if (!cut->at && !cut->bytes) {
        cut->tensor = unit->tensor;
        cut->begin = unit->begin;
    } else {
        cut->at += cut->bytes;
        cut->begin += cut->bytes;
    }
    if (cut->at == unit->bytes)
        return false;
    while (cut->begin == c->tensors[cut->tensor].bytes) {
        cut->tensor++;
        cut->begin = 0;
    }
    const struct catalog_tensor *t = &c->tensors[cut->tensor];
    int64_t range = t->range - cut->begin % t->range;
    cut->bytes = min64(min64(range, t->bytes - cut->begin), unit->bytes - cut->at);
    return true;
}

/* ---- the threads: each has a descriptor of its own ---- */

struct open_file {
    char *path;
    int file, fd; /* the catalog's; -1 */
};

static int open_file(const struct unit_reader *r, struct open_file *f, int file)
{
    if (f->file == file && f->fd >= 0)
        return 0;
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    f->path = path_join(r->dir, catalog_file(r->u->c, file));
    f->file = file;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    return f->fd < 0 ? error_errno("cannot open '%s'", f->path) : 0;
}

static void sum_unit(const struct catalog *c, struct read_slot *s)
{
    s->sum_count = 0;
    for (struct unit_cut cut = {0}; unit_next_cut(c, s->unit, &cut);) {
        if (s->sum_count == s->sum_room) {
            s->sum_room = s->sum_room ? 2 * s->sum_room : 16;
            s->sums = xrealloc(s->sums, s->sum_room, sizeof *s->sums);
        }
        bool summed = c->tensors[cut.tensor].sum >= 0;
        s->sums[s->sum_count++] = summed ? sum_bytes(0, s->bytes + cut.at, cut.bytes) : 0;
    }
}

static void read_unit(const struct unit_reader *r, struct open_file *f, struct read_slot *s, bool stopped)
{
    const struct load_unit *unit = s->unit;
    s->failed = stopped;
    s->text[0] = '\0';
    if (!s->bytes)
        s->bytes = xcalloc(UNIT_BYTES, 1);
    if (stopped)
        return;
    if (open_file(r, f, unit->file) < 0 || pread_all(f->fd, s->bytes, unit->bytes, unit->at, f->path) < 0) {
        s->failed = true;
        s->status = error_status();
        snprintf(s->text, sizeof s->text, "%s", error_text());
    } else {
        sum_unit(r->u->c, s);
    }
}

/* A slot for this rank's next unit, or NULL when there is none left. */
static struct read_slot *next_slot(struct unit_reader *r, bool *stopped)
{
    const struct load_units *u = r->u;
    struct read_slot *s = NULL;
    pthread_mutex_lock(&r->lock);
    while (r->begun - r->let == READ_SLOTS)
        pthread_cond_wait(&r->moved, &r->lock);
    while (r->next < u->unit_count && u->list[r->next].reader != r->rank)
        r->next++;
    if (r->next < u->unit_count) {
        s = &r->slots[r->begun++ % READ_SLOTS];
        s->unit = &u->list[r->next++];
        s->ready = false;
    }
    *stopped = r->stopped;
    pthread_mutex_unlock(&r->lock);
    return s;
}

static void *read_units(void *arg)
{
    struct unit_reader *r = arg;
    struct open_file f = {.file = -1, .fd = -1};
    bool stopped;
    for (struct read_slot *s; (s = next_slot(r, &stopped));) {
        read_unit(r, &f, s, stopped);
        pthread_mutex_lock(&r->lock);
        s->ready = true;
        pthread_cond_broadcast(&r->moved);
        pthread_mutex_unlock(&r->lock);
    }
    if (f.fd >= 0)
        close(f.fd);
    free(f.path);
    return NULL;
}

/* ---- the walk's side ---- */

int unit_reader_start(struct unit_reader *r, const struct load_units *u, const char *dir, int rank, int threads)
{
    *r = (struct unit_reader){.u = u, .dir = dir, .rank = rank};
    pthread_mutex_init(&r->lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&r->moved, &clock);
    pthread_condattr_destroy(&clock);
    for (int i = 0; i < min64(max64(threads, 1), READ_THREADS); i++) {
        int e = pthread_create(&r->threads[r->started], NULL, read_units, r);
        r->started += e == 0;
        errno = e;
    }
    return r->started ? 0 : error_errno("cannot start a thread that reads the checkpoint");
}

struct read_slot *unit_reader_take(struct unit_reader *r)
{
    pthread_mutex_lock(&r->lock);
    struct read_slot *s = &r->slots[r->taken % READ_SLOTS];
    while (r->begun == r->taken || !s->ready) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 5000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&r->moved, &r->lock, &until);
        pthread_mutex_unlock(&r->lock);
        alive();
        pthread_mutex_lock(&r->lock);
    }
    r->taken++;
    pthread_mutex_unlock(&r->lock);
    return s;
}

void unit_reader_let(struct unit_reader *r)
{
    pthread_mutex_lock(&r->lock);
    r->let++;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

void unit_reader_stop(struct unit_reader *r)
{
    pthread_mutex_lock(&r->lock);
    r->stopped = true;
    pthread_mutex_unlock(&r->lock);
}

void unit_reader_end(struct unit_reader *r, bool keep)
{
    pthread_mutex_lock(&r->lock);
    r->stopped = true;
    r->next = r->u->unit_count;
    r->let = r->begun;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->started; i++)
        pthread_join(r->threads[i], NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->moved);
    for (int i = 0; i < READ_SLOTS && !keep; i++) {
        free(r->slots[i].bytes);
        free(r->slots[i].sums);
    }
}
