/* SPDX-License-Identifier: MIT */
#include "stat/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

enum { BUFFER_BYTES = 1 << 18 };

void spool_init(struct spool *s, size_t size)
{
    *s = (struct spool){.size = size, .fd = -1, .limit = SPOOL_BYTES};
}

void spool_release(struct spool *s)
{
    if (s->fd >= 0 && s->size)
        close(s->fd);
    free(s->memory);
    *s = (struct spool){.fd = -1};
}

static bool write_all(int fd, const char *p, size_t bytes, off_t at)
{
    while (bytes > 0) {
        ssize_t n = pwrite(fd, p, bytes, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        bytes -= (size_t)n;
        at += n;
    }
    return true;
}

static void fail(struct spool *s)
{
    __atomic_store_n(&s->failed, errno ? errno : EIO, __ATOMIC_RELAXED); /* by any of several readers */
}

/* What is in memory goes to the file. */
static void write_out(struct spool *s)
{
    off_t at = (off_t)((s->count - s->kept) * s->size);
    if (!s->failed && !write_all(s->fd, s->memory, s->kept * s->size, at))
        fail(s);
    s->kept = 0;
}

void spool_append(struct spool *s, const void *record)
{
    bool full = s->fd < 0 ? (s->kept + 1) * s->size > s->limit : (s->kept + 1) * s->size > BUFFER_BYTES;
    if (full && s->fd < 0 && !s->failed && (s->fd = file_nameless()) < 0)
        fail(s);
    if (full && s->fd >= 0)
        write_out(s);
    else if (full && s->failed)
        return; /* spool_error() tells */
    if (s->kept == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->memory = xrealloc(s->memory, s->room, s->size);
    }
    memcpy(s->memory + s->kept++ * s->size, record, s->size);
    s->count++;
}

void spool_flush(struct spool *s)
{
    if (s->fd >= 0)
        write_out(s);
}

static void fill(struct spool *s, struct spool_window *w, size_t i)
{
    size_t most = BUFFER_BYTES / s->size, want;
    if (!w->records)
        w->records = xcalloc(most, s->size);
    w->first = i;
    w->count = most < s->count - i ? most : s->count - i;
    want = w->count * s->size;
    for (size_t done = 0; done < want;) {
        ssize_t n = pread(s->fd, w->records + done, want - done, (off_t)(i * s->size + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : EIO;
            fail(s);
            memset(w->records + done, 0, want - done);
            return;
        }
        done += (size_t)n;
    }
}

const void *spool_read(struct spool *s, struct spool_window *w, size_t i)
{
    if (s->fd < 0)
        return s->memory + i * s->size;
    if (i < w->first || i - w->first >= w->count)
        fill(s, w, i);
    return w->records + (i - w->first) * s->size;
}

void spool_window_release(struct spool_window *w)
{
    free(w->records);
    *w = (struct spool_window){0};
}

void spool_write(struct spool *s, size_t i, const void *record)
{
    if (s->fd < 0)
        memmove(s->memory + i * s->size, record, s->size);
    else if (!write_all(s->fd, record, s->size, (off_t)(i * s->size)))
        fail(s);
}

void spool_truncate(struct spool *s, size_t count)
{
    s->count = count;
    if (s->fd < 0)
        s->kept = count;
}

void spool_drop(struct spool *s, size_t n)
{
    memmove(s->memory, s->memory + n * s->size, (s->count - n) * s->size);
    s->count = s->kept = s->count - n;
}

/* ---- sorting ---- */

static void swap(char *a, char *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = a[i];
        a[i] = b[i];
        b[i] = c;
    }
}

static void sink(char *p, size_t i, size_t n, size_t size, int (*compare)(const void *, const void *))
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && compare(p + child * size, p + (child + 1) * size) < 0;
        if (compare(p + i * size, p + child * size) >= 0)
            return;
        swap(p + i * size, p + child * size, size);
    }
}

/* A heap, which needs no room beside the records. */
static void heap_sort(char *p, size_t n, size_t size, int (*compare)(const void *, const void *))
{
    for (size_t i = n / 2; i > 0; i--)
        sink(p, i - 1, n, size, compare);
    for (size_t i = n; i > 1; i--) {
        swap(p, p + (i - 1) * size, size);
        sink(p, 0, i - 1, size, compare);
    }
}

void spool_sort(struct spool *s, int (*compare)(const void *, const void *))
{
    if (s->count < 2)
        return;
    if (s->fd < 0) {
        qsort(s->memory, s->count, s->size, compare);
        return;
    }
    char *p = mmap(NULL, s->count * s->size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (p == MAP_FAILED) {
        fail(s);
        return;
    }
    heap_sort(p, s->count, s->size, compare);
    munmap(p, s->count * s->size);
}

int spool_error(const struct spool *s)
{
    errno = s->failed;
    return s->failed ? error_errno("cannot keep the log's steps in a temporary file ($TMPDIR)") : 0;
}
