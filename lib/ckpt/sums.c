/* SPDX-License-Identifier: MIT */
/* Files against their checksums: a file is a task, the largest first, taken by whichever thread is free. */
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
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "tensors/safetensors.h"

#define CHUNK_BYTES  ((int64_t)4 << 20)
#define MOST_THREADS 8

struct summing {
    struct problems *problems;
    const struct manifest *m;
    const char *dir;
    int *order;          /* files, largest first */
    int64_t *start;      /* where each file would begin if they lay one behind the other */
    int64_t first, last; /* the bytes of that which are to be read: [first,last) */
    atomic_int next;
    atomic_llong done;
};

struct worker {
    struct summing *s;
    char *buffer;
    bool shows_progress;
};

#define unreadable(w, ...) (problem((w)->s->problems, __VA_ARGS__), problem_unreadable((w)->s->problems))

/* crc32 of bytes [from, from+bytes). false when they cannot be read: noted. */
static bool sum_bytes(struct worker *w, int fd, const char *path, int64_t from, int64_t bytes, uint32_t *crc)
{
    *crc = 0;
    for (int64_t done = 0; done < bytes;) {
        int64_t n = min64(CHUNK_BYTES, bytes - done);
        if (pread_all(fd, w->buffer, n, from + done, path) < 0) {
            unreadable(w, "%s", error_text());
            return false;
        }
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)w->buffer, n);
        done += n;
        long long all = atomic_fetch_add(&w->s->done, n) + n;
        if (w->shows_progress)
            progress("verifying", all >> 20, (w->s->last - w->s->first) >> 20, "MiB");
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct manifest_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static const struct manifest_tensor *find_tensor(const struct manifest_file *f, char *name)
{
    struct manifest_tensor key = {name};
    return f->count ? bsearch(&key, f->tensors, (size_t)f->count, sizeof key, by_name) : NULL;
}

static bool is_mine(const struct summing *s, int64_t at)
{
    return at >= s->first && at < s->last;
}

/* The header, whether all is listed, and the file's sum, which follows from those of its parts: what is
 * damaged below the header is named by tensor. */
static void sum_header(struct worker *w, const struct manifest_file *f, const struct st_file *st)
{
    struct problems *problems = w->s->problems;
    uint32_t whole;
    if (!sum_bytes(w, st->fd, st->path, 0, st->data, &whole))
        return;
    bool all = true;
    for (int i = 0; i < st->count; i++) {
        const struct manifest_tensor *listed = find_tensor(f, st->tensors[i].name);
        if (listed)
            whole = (uint32_t)crc32_combine64(whole, listed->crc32, st->tensors[i].end - st->tensors[i].begin);
        else
            problem(problems, "%s: tensor '%s' is not in the manifest", st->path, st->tensors[i].name);
        all = all && listed;
    }
    for (int i = 0; i < f->count; i++)
        if (!st_find(st, f->tensors[i].name)) {
            problem(problems, "%s: has no tensor '%s', which the manifest lists", st->path, f->tensors[i].name);
            all = false;
        }
    if (all && whole != f->crc32)
        problem(problems, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, st->path, whole, f->crc32);
}

/* A safetensors file: each tensor against its own sum, so that the damaged one can be named. */
static void sum_tensors(struct worker *w, const struct manifest_file *f, const char *path, int64_t start)
{
    struct problems *problems = w->s->problems;
    struct st_file st;
    uint32_t crc;
    if (st_open(&st, path) < 0) {
        problem(problems, "%s", error_text());
        return;
    }
    if (is_mine(w->s, start))
        sum_header(w, f, &st);
    for (int i = 0; i < st.count; i++) {
        const struct st_tensor *t = &st.tensors[i];
        const struct manifest_tensor *listed = find_tensor(f, t->name);
        if (!listed || !is_mine(w->s, start + st.data + t->begin))
            continue;
        if (!sum_bytes(w, st.fd, path, st.data + t->begin, t->end - t->begin, &crc))
            break;
        if (listed->crc32 != crc)
            problem(problems, "%s: tensor '%s' is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, t->name,
                    crc, listed->crc32);
    }
    st_close(&st);
}

static void sum_plain(struct worker *w, const struct manifest_file *f, const char *path)
{
    uint32_t crc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        unreadable(w, "cannot open '%s': %s", path, strerror(errno));
    else if (sum_bytes(w, fd, path, 0, f->bytes, &crc) && crc != f->crc32)
        problem(w->s->problems, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, crc, f->crc32);
    if (fd >= 0)
        close(fd);
}

static void sum_file(struct worker *w, int file)
{
    const struct manifest_file *f = &w->s->m->files[file];
    int64_t start = w->s->start[file];
    struct stat st;
    if (start >= w->s->last || start + f->bytes < w->s->first)
        return;
    char *path = path_join(w->s->dir, f->name);
    if (stat(path, &st) != 0)
        unreadable(w, "%s: is missing", path);
    else if (!S_ISREG(st.st_mode))
        problem(w->s->problems, "%s: is not a regular file", path);
    else if (st.st_size != f->bytes)
        problem(w->s->problems, "%s: has %" PRId64 " bytes, not %" PRId64, path, (int64_t)st.st_size, f->bytes);
    else if (f->tensors)
        sum_tensors(w, f, path, start);
    else if (is_mine(w->s, start))
        sum_plain(w, f, path);
    free(path);
}

static void *sum_files(void *arg)
{
    struct worker *w = arg;
    w->buffer = xmalloc(CHUNK_BYTES);
    for (int i; (i = atomic_fetch_add(&w->s->next, 1)) < w->s->m->count;)
        sum_file(w, w->s->order[i]);
    free(w->buffer);
    return NULL;
}

/* Waits for a thread, with signs of life: its file may be a large one. */
static void join(pthread_t id)
{
    struct timespec until;
    do {
        alive();
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
    } while (pthread_clockjoin_np(id, NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
}

static int largest_first(const void *a, const void *b, void *files)
{
    const struct manifest_file *f = files;
    int64_t x = f[*(const int *)a].bytes, y = f[*(const int *)b].bytes;
    return x > y ? -1 : x < y;
}

/* The bytes of part `part`; the last takes what begins at the end too, an empty file. */
static void take_part(struct summing *s, int64_t total, const struct sums_part *part)
{
    int64_t parts = part ? part->parts : 1, mine = part ? part->part : 0, each = total / parts,
            rest = total % parts;
    s->first = mine * each + min64(mine, rest);
    s->last = s->first + each + (mine < rest) + (mine == parts - 1);
}

int64_t sums_verify(struct problems *p, const struct manifest *m, const char *dir, const struct sums_part *part)
{
    struct summing s = {.problems = p, .m = m, .dir = dir, .order = xcalloc(m->count, sizeof *s.order)};
    int64_t total = 0;
    s.start = xcalloc(m->count, sizeof *s.start);
    for (int i = 0; i < m->count; i++) {
        s.order[i] = i;
        s.start[i] = total;
        total += m->files[i].bytes;
    }
    take_part(&s, total, part);
    qsort_r(s.order, m->count, sizeof *s.order, largest_first, m->files);
    long cpus = part ? part->threads : sysconf(_SC_NPROCESSORS_ONLN);
    int threads = (int)min64(max64(cpus, 1), MOST_THREADS), started = 0;
    pthread_t ids[MOST_THREADS];
    struct worker workers[MOST_THREADS];
    for (int i = 0; i < threads; i++)
        workers[i] = (struct worker){.s = &s, .shows_progress = i == 0};
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[started], NULL, sum_files, &workers[i]) == 0)
            started++;
    sum_files(&workers[0]);
    for (int i = 0; i < started; i++)
        join(ids[i]);
    progress_end();
    free(s.order);
    free(s.start);
    return atomic_load(&s.done);
}
