/* SPDX-License-Identifier: MIT */
#include "late_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

enum { PAGE = 4096, HUGE = 2 << 20 };

/* Twice in an f32 and four times in an f64 it is a NaN of each, as it is of bf16; as an index it is far off. */
static const uint16_t UNWRITTEN = 0x7ff7;

/* What is allocated ends where `base` does, and closed pages are before and behind. */
struct late_block {
    struct late_block *next;
    char *mapped, *base;
    size_t mapped_bytes, bytes;
    void *p;
};
static struct late_block *blocks;

static void protect(const struct late_block *b, int prot)
{
    if (mprotect(b->base, b->bytes, prot))
        abort();
}

static size_t used(size_t bytes)
{
    return (size_t)round_up(max64((int64_t)bytes, 1), 64);
}

/* Large blocks are of huge pages, which open and close a hundred times as fast. */
void *late_alloc(size_t bytes)
{
    int64_t page = bytes < HUGE / 2 ? PAGE : HUGE;
    struct late_block *b = xcalloc(1, sizeof *b);
    b->bytes = (size_t)round_up((int64_t)used(bytes), page);
    b->mapped_bytes = b->bytes + 3 * (size_t)page;
    b->mapped = mmap(NULL, b->mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->mapped == MAP_FAILED) {
        free(b);
        error_errno("cannot allocate %zu bytes", bytes);
        return NULL;
    }
    b->base = b->mapped + page + (size_t)(-(intptr_t)b->mapped & (page - 1));
    b->p = b->base + b->bytes - used(bytes);
    b->next = blocks;
    blocks = b;
    if (page == HUGE)
        madvise(b->base, b->bytes, MADV_HUGEPAGE); /* only a hint */
    protect(b, PROT_READ | PROT_WRITE);
    for (uint16_t *x = b->p; (char *)x < b->base + b->bytes; x++)
        *x = UNWRITTEN;
    protect(b, PROT_NONE);
    return b->p;
}

void late_free(void *p)
{
    for (struct late_block **at = &blocks; *at; at = &(*at)->next) {
        struct late_block *b = *at;
        if (b->p != p)
            continue;
        *at = b->next;
        munmap(b->mapped, b->mapped_bytes);
        free(b);
        return;
    }
}

void late_open(void)
{
    for (const struct late_block *b = blocks; b; b = b->next)
        protect(b, PROT_READ | PROT_WRITE);
}

void late_close(void)
{
    for (const struct late_block *b = blocks; b; b = b->next)
        protect(b, PROT_NONE);
}
