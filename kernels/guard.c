/* SPDX-License-Identifier: MIT */
/* The cpu backend with memory that faults when it is touched outside an operation, as a GPU's would.
 * A page that never opens follows each block, so that an operation which runs over its end faults too. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backends.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "queue.h"

enum { PAGE = 4096 };

struct block {
    struct block *next;
    char *base;
    size_t bytes; /* without the last page */
    void *p;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static int open_count;
static void protect(int prot)
{
    for (struct block *b = blocks; b; b = b->next)
        if (mprotect(b->base, b->bytes, prot))
            abort();
}

static void guard_open(void)
{
    pthread_mutex_lock(&lock);
    if (open_count++ == 0)
        protect(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&lock);
}

static void guard_close(void)
{
    pthread_mutex_lock(&lock);
    if (--open_count == 0)
        protect(PROT_NONE);
    pthread_mutex_unlock(&lock);
}

static void *guard_alloc(size_t bytes)
{
    size_t used = (size_t)round_up(max64((int64_t)bytes, 1), 64),
           mapped = (size_t)round_up((int64_t)used, PAGE);
    char *base = mmap(NULL, mapped + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        error_errno("cannot allocate %zu bytes", bytes);
        return NULL;
    }
    struct block *b = xmalloc(sizeof *b);
    pthread_mutex_lock(&lock);
    *b = (struct block){blocks, base, mapped, base + mapped - used};
    blocks = b;
    if (open_count && mprotect(base, mapped, PROT_READ | PROT_WRITE))
        abort();
    pthread_mutex_unlock(&lock);
    return b->p;
}

static void guard_free(void *p, size_t bytes)
{
    pthread_mutex_lock(&lock);
    for (struct block **at = &blocks; *at; at = &(*at)->next) {
        struct block *b = *at;
        if (b->p != p)
            continue;
        *at = b->next;
        munmap(b->base, b->bytes + PAGE);
        free(b);
        break;
    }
    pthread_mutex_unlock(&lock);
}

static const struct queue_policy fenced = {.staged = true, .open = guard_open, .close = guard_close};

static struct stream *guard_stream_new(void)
{
    return queue_stream_new(&fenced);
}

/* Without a stream the queue opens nothing. */
static struct backend queue;

static void guard_zero(struct stream *s, void *dst, size_t bytes)
{
    guard_open();
    queue.zero(s, dst, bytes);
    guard_close();
}

static void guard_copy(struct stream *s, void *dst, const void *src, size_t bytes)
{
    guard_open();
    queue.copy(s, dst, src, bytes);
    guard_close();
}

static void guard_upload(struct stream *s, void *dst, const void *host, size_t bytes)
{
    guard_open();
    queue.upload(s, dst, host, bytes);
    guard_close();
}

static int guard_download(struct stream *s, void *host, const void *src, size_t bytes)
{
    guard_open();
    int rc = queue.download(s, host, src, bytes);
    guard_close();
    return rc;
}

static const struct backend *cpu;
static struct backend direct;

#define X(name)                                                                                                \
    static void open_##name(struct stream *s, const struct name *op)                                           \
    {                                                                                                          \
        guard_open();                                                                                          \
        cpu->name(s, op);                                                                                      \
        guard_close();                                                                                         \
    }                                                                                                          \
    QUEUED(direct, name)
BACKEND_OPS(X)
#undef X

const struct backend *guard_backend(int device)
{
    static struct backend be = {.name = "guard", .alloc = guard_alloc, .free = guard_free};
    cpu = cpu_direct();
    queue_install(&queue);
    queue_install(&be);
    be.stream_new = guard_stream_new;
    be.zero = guard_zero;
    be.copy = guard_copy;
    be.upload = guard_upload;
    be.download = guard_download;
#define X(name) be.name = queued_##name, direct.name = open_##name;
    BACKEND_OPS(X)
#undef X
    return &be;
}
