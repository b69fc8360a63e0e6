/* SPDX-License-Identifier: MIT */
#include "late_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

enum { PAGE = 4096 };

/* Twice in an f32 and four times in an f64 it is a NaN of each, as it is of bf16; as an index it is far off. */
static const uint16_t UNWRITTEN = 0x7ff7;

/* A closed page, `bytes` of pages at `base`, a closed page. What is allocated ends where the last one begins. */
struct late_block {
    struct late_block *next;
    char *base;
    size_t bytes;
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

void *late_alloc(size_t bytes)
{
    size_t pages = (size_t)round_up((int64_t)used(bytes), PAGE);
    char *mapped = mmap(NULL, pages + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        error_errno("cannot allocate %zu bytes", bytes);
        return NULL;
    }
    struct late_block *b = xmalloc(sizeof *b);
    *b = (struct late_block){blocks, mapped + PAGE, pages, mapped + PAGE + pages - used(bytes)};
    blocks = b;
    protect(b, PROT_READ | PROT_WRITE);
    for (uint16_t *x = (uint16_t *)b->base; (char *)x < b->base + pages; x++)
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
        munmap(b->base - PAGE, b->bytes + 2 * PAGE);
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
