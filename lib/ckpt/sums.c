/* SPDX-License-Identifier: MIT */
/* Files against their checksums: headers first, then a list of ranges, taken by whichever thread is free. */
#include "ckpt/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/process.h"
#include "tensors/sum.h"

#define CHUNK_BYTES ((int64_t)4 << 20)
enum { MOST_THREADS = 8 };

/* ---- what is not the bytes of tensors ---- */

/* Whether a file is there in its size; else that is noted. */
static bool has_size(struct problems *p, const struct manifest_file *f, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        int e = errno;
        problem(p, "cannot open '%s': %s", path, strerror(e)); /* as whoever reads it says: noted once */
        if (e != ENOENT)
            problem_unreadable(p);
        return false;
    }
    if (!S_ISREG(st.st_mode))
        problem(p, "%s: is not a regular file", path);
    else if (st.st_size != f->bytes)
        problem(p, "%s: has %" PRId64 " bytes, not %" PRId64, path, (int64_t)st.st_size, f->bytes);
    return S_ISREG(st.st_mode) && st.st_size == f->bytes;
}

void sums_sizes(struct problems *p, const struct manifest *m, const char *dir)
{
    for (int i = 0; i < m->count; i++) {
        char *path = path_join(dir, m->files[i].name);
        has_size(p, &m->files[i], path);
        free(path);
    }
}

static void note_unread(struct problems *p)
{
    problem(p, "%s", error_text());
    if (error_status() == STATUS_ENV)
        problem_unreadable(p);
}

static void note_damaged(struct problems *p, const char *path, uint32_t is, uint32_t should)
{
    problem(p, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, is, should);
}

void sums_side_files(struct problems *p, const struct manifest *m, const char *dir, const char *name)
{
    for (int i = 0; i < m->count; i++) {
        const struct manifest_file *f = &m->files[i];
        if (f->tensors || (name && strcmp(f->name, name) != 0))
            continue;
        size_t bytes;
        char *path = path_join(dir, f->name), *text = NULL;
        if (has_size(p, f, path) && !(text = file_read(path, (size_t)f->bytes, &bytes)))
            note_unread(p);
        uint32_t crc = text ? sum_bytes(0, text, bytes) : 0;
        if (text && crc != f->crc32)
            note_damaged(p, path, crc, f->crc32);
        free(text);
        free(path);
    }
}

/* A file that says of which step it is must be of the manifest's. */
static void check_step(struct problems *p, const struct manifest *m, const struct st_file *st)
{
    int64_t step;
    for (char **x = st->metadata; x && *x; x += 2)
        if (strcmp(*x, STEP_KEY) == 0 && (!parse_int(x[1], 0, INT64_MAX, &step) || step != m->step))
            problem(p, "%s: is of step %s, and the checkpoint of step %" PRId64, st->path, x[1], m->step);
}

/* Whether there are as many sums of a tensor's ranges as it has. */
static bool has_ranges(const struct manifest *m, const struct manifest_tensor *t, int64_t bytes)
{
    return t->ranges && t->range_count == ceil_div(bytes, m->range);
}

/* Whether they make its own, where any are listed. */
static bool ranges_fit(const struct manifest *m, const struct manifest_tensor *t, int64_t bytes)
{
    uint32_t crc = 0;
    if (!has_ranges(m, t, bytes))
        return !t->ranges;
    for (int i = 0; i < t->range_count; i++)
        crc = sum_join(crc, t->ranges[i], min64(m->range, bytes - i * m->range));
    return crc == t->crc32;
}

void sums_header(struct problems *p, const struct manifest *m, const struct manifest_file *f,
                 const struct st_file *st)
{
    uint32_t whole = st->header_crc;
    bool all = true;
    for (int i = 0; i < st->count; i++) {
        const struct st_tensor *t = &st->tensors[i];
        const struct manifest_tensor *listed = manifest_tensor(f, t->name);
        if (!listed)
            problem(p, "%s: tensor '%s' is not in the manifest", st->path, t->name);
        else if (!ranges_fit(m, listed, t->end - t->begin))
            problem(p, "%s: tensor '%s': its ranges in the manifest do not make it", st->path, t->name);
        else
            whole = sum_join(whole, listed->crc32, t->end - t->begin);
        all = all && listed;
    }
    for (int i = 0; i < f->count; i++)
        if (!st_find(st, f->tensors[i].name)) {
            problem(p, "%s: has no tensor '%s', which the manifest lists", st->path, f->tensors[i].name);
            all = false;
        }
    if (all && whole != f->crc32)
        note_damaged(p, st->path, whole, f->crc32);
    check_step(p, m, st);
}

/* ---- the bytes of tensors ---- */

/* A range of a tensor's. */
struct sum_task {
    const struct manifest_file *file;
    const struct manifest_tensor *tensor;
    int64_t at, bytes; /* in the file */
    uint32_t crc32;    /* what it should be */
};

struct summing {
    struct problems *problems;
    const char *dir;
    struct sum_task *tasks;
    int64_t count, room, bytes;
    atomic_llong next, done;
};

struct worker {
    struct summing *s;
    char *buffer, *path;
    const struct manifest_file *open; /* the file that fd is of */
    int fd;
    bool shows_progress;
};

static void add_task(struct summing *s, struct sum_task task)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->tasks = xrealloc(s->tasks, s->room, sizeof *s->tasks);
    }
    s->tasks[s->count++] = task;
    s->bytes += task.bytes;
}

static void add_tensor(struct summing *s, const struct manifest *m, const struct manifest_file *f,
                       const struct st_file *st, const struct st_tensor *t)
{
    const struct manifest_tensor *listed = manifest_tensor(f, t->name);
    int64_t bytes = t->end - t->begin;
    bool cut = listed && has_ranges(m, listed, bytes); /* too few or too many are noted: then as a whole */
    int64_t range = cut ? m->range : bytes;
    for (int64_t i = 0; listed && i * range < bytes; i++)
        add_task(s, (struct sum_task){.file = f,
                                      .tensor = listed,
                                      .at = st->data + t->begin + i * range,
                                      .bytes = min64(range, bytes - i * range),
                                      .crc32 = cut ? listed->ranges[i] : listed->crc32});
}

static void add_file(struct summing *s, const struct manifest *m, const struct manifest_file *f)
{
    struct st_file st;
    char *path = path_join(s->dir, f->name);
    bool sized = has_size(s->problems, f, path);
    if (sized && st_open(&st, path) < 0) {
        note_unread(s->problems);
    } else if (sized) {
        sums_header(s->problems, m, f, &st);
        for (int i = 0; i < st.count; i++)
            add_tensor(s, m, f, &st, &st.tensors[i]);
        st_close(&st);
    }
    free(path);
}

static bool open_for(struct worker *w, const struct manifest_file *f)
{
    if (w->open == f)
        return w->fd >= 0;
    if (w->fd >= 0)
        close(w->fd);
    free(w->path);
    w->path = path_join(w->s->dir, f->name);
    w->fd = open(w->path, O_RDONLY | O_CLOEXEC);
    w->open = f;
    if (w->fd < 0) {
        error_errno("cannot open '%s'", w->path);
        note_unread(w->s->problems);
    }
    return w->fd >= 0;
}

static void sum_range(struct worker *w, const struct sum_task *t)
{
    uint32_t crc = 0;
    if (!open_for(w, t->file))
        return;
    for (int64_t done = 0, n; done < t->bytes; done += n) {
        n = min64(CHUNK_BYTES, t->bytes - done);
        if (pread_all(w->fd, w->buffer, n, t->at + done, w->path) < 0) {
            note_unread(w->s->problems);
            return;
        }
        crc = sum_bytes(crc, w->buffer, n);
        long long all = atomic_fetch_add(&w->s->done, n) + n;
        if (w->shows_progress)
            progress("verifying", all >> 20, w->s->bytes >> 20, "MiB");
    }
    if (crc != t->crc32)
        problem(w->s->problems,
                "%s: tensor '%s' is damaged: crc32 of %" PRId64 " bytes from byte %" PRId64 " is %08" PRIx32
                ", not %08" PRIx32,
                w->path, t->tensor->name, t->bytes, t->at, crc, t->crc32);
}

static void *sum_ranges(void *arg)
{
    struct worker *w = arg;
    w->buffer = xmalloc(CHUNK_BYTES);
    for (int64_t i; (i = atomic_fetch_add(&w->s->next, 1)) < w->s->count;)
        sum_range(w, &w->s->tasks[i]);
    if (w->fd >= 0)
        close(w->fd);
    free(w->path);
    free(w->buffer);
    return NULL;
}

static void sum_all(struct summing *s)
{
    cpu_set_t cpus;
    process_cpus(&cpus);
    int threads = (int)min64(max64(CPU_COUNT(&cpus), 1), MOST_THREADS), started = 0;
    pthread_t ids[MOST_THREADS];
    struct worker workers[MOST_THREADS];
    for (int i = 0; i < threads; i++)
        workers[i] = (struct worker){.s = s, .fd = -1, .shows_progress = i == 0};
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[started], NULL, sum_ranges, &workers[i]) == 0)
            started++;
    sum_ranges(&workers[0]);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    progress_end();
}

void sums_verify(struct problems *p, const struct manifest *m, const char *dir)
{
    struct summing s = {.problems = p, .dir = dir};
    sums_side_files(p, m, dir, NULL);
    for (int i = 0; i < m->count; i++)
        if (m->files[i].tensors)
            add_file(&s, m, &m->files[i]);
    sum_all(&s);
    free(s.tasks);
}
