/* SPDX-License-Identifier: MIT */
/* Files against their checksums. A task is a slice of a file, taken by whichever thread is free: the tensors
 * that begin in it. So one large file keeps all threads busy too. */
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

#include "base/alive.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "tensors/safetensors.h"
#include "tensors/sum.h"

#define CHUNK_BYTES  ((int64_t)1 << 20) /* of a read: they are summed while they are in a core's cache */
#define SLICE_BYTES  ((int64_t)256 << 20)
#define MOST_THREADS 8

/* Where something begins says whose it is: bytes are counted as if the files lay one behind the other. */
struct slice {
    int file;
    int64_t first, last; /* [first,last) */
};

struct summing {
    struct problems *problems;
    const struct manifest *m;
    const char *dir;
    int64_t *start; /* [files] where each begins */
    int64_t total;  /* bytes that are to be read */
    struct slice *slices;
    int count;
    atomic_int next;
    atomic_llong done;
};

struct worker {
    struct summing *s;
    struct slice now;
    char *buffer;
    bool shows_progress;
};

#define unreadable(w, ...) (problem((w)->s->problems, __VA_ARGS__), problem_unreadable((w)->s->problems))

/* crc32 of bytes [from, from+bytes). false when they cannot be read: noted. */
static bool sum_range(struct worker *w, int fd, const char *path, int64_t from, int64_t bytes, uint32_t *crc)
{
    *crc = 0;
    for (int64_t done = 0; done < bytes;) {
        int64_t n = min64(CHUNK_BYTES, bytes - done);
        if (pread_all(fd, w->buffer, n, from + done, path) < 0) {
            unreadable(w, "%s", error_text());
            return false;
        }
        *crc = sum_bytes(*crc, w->buffer, n);
        done += n;
        long long all = atomic_fetch_add(&w->s->done, n) + n;
        if (w->shows_progress)
            progress("verifying", all >> 20, w->s->total >> 20, "MiB");
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

static bool is_mine(const struct worker *w, int64_t at)
{
    return at >= w->now.first && at < w->now.last;
}

/* The header, whether all is listed, and the file's sum, which follows from those of its parts: what is
 * damaged below the header is named by tensor. */
static void sum_header(struct worker *w, const struct manifest_file *f, const struct st_file *st)
{
    struct problems *problems = w->s->problems;
    uint32_t whole;
    if (!sum_range(w, st->fd, st->path, 0, st->data, &whole))
        return;
    bool all = true;
    for (int i = 0; i < st->count; i++) {
        const struct manifest_tensor *listed = find_tensor(f, st->tensors[i].name);
        if (listed)
            whole = sum_join(whole, listed->crc32, st->tensors[i].end - st->tensors[i].begin);
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
    if (is_mine(w, start))
        sum_header(w, f, &st);
    for (int i = 0; i < st.count; i++) {
        const struct st_tensor *t = &st.tensors[i];
        const struct manifest_tensor *listed = find_tensor(f, t->name);
        if (!listed || !is_mine(w, start + st.data + t->begin))
            continue;
        if (!sum_range(w, st.fd, path, st.data + t->begin, t->end - t->begin, &crc))
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
    else if (sum_range(w, fd, path, 0, f->bytes, &crc) && crc != f->crc32)
        problem(w->s->problems, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, crc, f->crc32);
    if (fd >= 0)
        close(fd);
}

static void sum_slice(struct worker *w)
{
    const struct manifest_file *f = &w->s->m->files[w->now.file];
    int64_t start = w->s->start[w->now.file];
    struct stat st;
    char *path = path_join(w->s->dir, f->name);
    if (stat(path, &st) != 0)
        unreadable(w, "%s: is missing", path);
    else if (!S_ISREG(st.st_mode))
        problem(w->s->problems, "%s: is not a regular file", path);
    else if (st.st_size != f->bytes)
        problem(w->s->problems, "%s: has %" PRId64 " bytes, not %" PRId64, path, (int64_t)st.st_size, f->bytes);
    else if (f->tensors)
        sum_tensors(w, f, path, start);
    else if (is_mine(w, start))
        sum_plain(w, f, path);
    free(path);
}

static void *sum_slices(void *arg)
{
    struct worker *w = arg;
    w->buffer = xmalloc(CHUNK_BYTES);
    for (int i; (i = atomic_fetch_add(&w->s->next, 1)) < w->s->count;) {
        w->now = w->s->slices[i];
        sum_slice(w);
    }
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

/* The bytes of part `part`; the last takes what begins at the end too, an empty file. */
static struct slice part_slice(int64_t total, const struct sums_part *part)
{
    int64_t parts = part ? part->parts : 1, mine = part ? part->part : 0, each = total / parts,
            rest = total % parts;
    int64_t first = mine * each + min64(mine, rest);
    return (struct slice){-1, first, first + each + (mine < rest) + (mine == parts - 1)};
}

/* What of the files is this part's, in slices. A file's last byte is followed by its end, where a tensor of no
 * bytes may begin. */
static void cut(struct summing *s, const struct sums_part *part)
{
    int64_t total = 0;
    for (int i = 0; i < s->m->count; i++) {
        s->start[i] = total;
        total += s->m->files[i].bytes;
    }
    struct slice mine = part_slice(total, part);
    s->total = mine.last - mine.first;
    for (int i = 0; i < s->m->count; i++) {
        int64_t at = max64(s->start[i], mine.first),
                end = min64(s->start[i] + s->m->files[i].bytes + 1, mine.last);
        for (; at < end; at += SLICE_BYTES) {
            s->slices = xrealloc(s->slices, (size_t)s->count + 1, sizeof *s->slices);
            s->slices[s->count++] = (struct slice){i, at, min64(at + SLICE_BYTES, end)};
        }
    }
}

static int longest_first(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int64_t m = x->last - x->first, n = y->last - y->first;
    return m > n ? -1 : m < n;
}

int64_t sums_verify(struct problems *p, const struct manifest *m, const char *dir, const struct sums_part *part)
{
    struct summing s = {.problems = p, .m = m, .dir = dir, .start = xcalloc(m->count, sizeof *s.start)};
    cut(&s, part);
    qsort(s.slices, s.count, sizeof *s.slices, longest_first);
    long cpus = part ? part->threads : sysconf(_SC_NPROCESSORS_ONLN);
    int threads = (int)min64(max64(cpus, 1), MOST_THREADS), started = 0;
    pthread_t ids[MOST_THREADS];
    struct worker workers[MOST_THREADS];
    for (int i = 0; i < threads; i++)
        workers[i] = (struct worker){.s = &s, .shows_progress = i == 0};
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[started], NULL, sum_slices, &workers[i]) == 0)
            started++;
    sum_slices(&workers[0]);
    for (int i = 0; i < started; i++)
        join(ids[i]);
    progress_end();
    free(s.start);
    free(s.slices);
    return atomic_load(&s.done);
}
