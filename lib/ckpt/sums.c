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
    int *order; /* files, largest first */
    int64_t total;
    atomic_int next;
    atomic_llong done;
};

struct worker {
    struct summing *s;
    char *buffer;
    bool shows_progress;
};

/* crc32 of bytes [from, from+bytes). false when they cannot be read: noted. */
static bool sum_bytes(struct worker *w, int fd, const char *path, int64_t from, int64_t bytes, uint32_t *crc)
{
    *crc = 0;
    for (int64_t done = 0; done < bytes;) {
        int64_t n = min64(CHUNK_BYTES, bytes - done);
        if (pread_all(fd, w->buffer, n, from + done, path) < 0) {
            problem(w->s->problems, "%s", error_text());
            return false;
        }
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)w->buffer, n);
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

/* A safetensors file: each tensor against its own sum, so that the damaged one can be named, then all together.
 */
static void sum_tensors(struct worker *w, const struct manifest_file *f, const char *path)
{
    struct problems *problems = w->s->problems;
    struct st_file st;
    uint32_t whole, crc;
    int damaged = 0;
    if (st_open(&st, path) < 0) {
        problem(problems, "%s", error_text());
        return;
    }
    bool read = sum_bytes(w, st.fd, path, 0, st.data, &whole);
    for (int i = 0; i < st.count && read; i++) {
        const struct st_tensor *t = &st.tensors[i];
        struct manifest_tensor key = {t->name};
        const struct manifest_tensor *listed =
            f->count ? bsearch(&key, f->tensors, f->count, sizeof key, by_name) : NULL;
        if (!listed)
            problem(problems, "%s: tensor '%s' is not in the manifest", path, t->name);
        if (!(read = sum_bytes(w, st.fd, path, st.data + t->begin, t->end - t->begin, &crc)))
            break;
        if (listed && listed->crc32 != crc) {
            problem(problems, "%s: tensor '%s' is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, t->name,
                    crc, listed->crc32);
            damaged++;
        }
        whole = (uint32_t)crc32_combine64(whole, crc, t->end - t->begin);
    }
    for (int i = 0; i < f->count; i++)
        if (!st_find(&st, f->tensors[i].name))
            problem(problems, "%s: has no tensor '%s', which the manifest lists", path, f->tensors[i].name);
    if (read && !damaged && whole != f->crc32)
        problem(problems, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, whole, f->crc32);
    st_close(&st);
}

static void sum_plain(struct worker *w, const struct manifest_file *f, const char *path)
{
    uint32_t crc;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        problem(w->s->problems, "cannot open '%s': %s", path, strerror(errno));
    else if (sum_bytes(w, fd, path, 0, f->bytes, &crc) && crc != f->crc32)
        problem(w->s->problems, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, path, crc, f->crc32);
    if (fd >= 0)
        close(fd);
}

static void sum_file(struct worker *w, const struct manifest_file *f)
{
    struct stat st;
    char *path = path_join(w->s->dir, f->name);
    if (stat(path, &st) != 0)
        problem(w->s->problems, "%s: is missing", path);
    else if (!S_ISREG(st.st_mode))
        problem(w->s->problems, "%s: is not a regular file", path);
    else if (st.st_size != f->bytes)
        problem(w->s->problems, "%s: has %" PRId64 " bytes, not %" PRId64, path, (int64_t)st.st_size, f->bytes);
    else if (f->tensors)
        sum_tensors(w, f, path);
    else
        sum_plain(w, f, path);
    free(path);
}

static void *sum_files(void *arg)
{
    struct worker *w = arg;
    w->buffer = xmalloc(CHUNK_BYTES);
    for (int i; (i = atomic_fetch_add(&w->s->next, 1)) < w->s->m->count;)
        sum_file(w, &w->s->m->files[w->s->order[i]]);
    free(w->buffer);
    return NULL;
}

/* Waits for a thread, with signs of life: its file may be a large one. */
static void join(pthread_t id)
{
    struct timespec until;
    do {
        alive();
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
    } while (pthread_timedjoin_np(id, NULL, &until) == ETIMEDOUT);
}

static int largest_first(const void *a, const void *b, void *files)
{
    const struct manifest_file *f = files;
    int64_t x = f[*(const int *)a].bytes, y = f[*(const int *)b].bytes;
    return x > y ? -1 : x < y;
}

void sums_verify(struct problems *p, const struct manifest *m, const char *dir)
{
    struct summing s = {.problems = p, .m = m, .dir = dir, .order = xcalloc(m->count, sizeof *s.order)};
    for (int i = 0; i < m->count; i++) {
        s.order[i] = i;
        s.total += m->files[i].bytes;
    }
    qsort_r(s.order, m->count, sizeof *s.order, largest_first, m->files);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
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
}
