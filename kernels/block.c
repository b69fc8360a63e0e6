/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/num.h"

enum { PAGE = 4096, HUGE = 2 << 20 };

#ifdef __SANITIZE_ADDRESS__
/* From the heap, so that the sanitizer sees the ends. */
void *block_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (size_t)round_up(max64((int64_t)bytes, 1), 64));
    if (!p) {
        error(STATUS_ENV, "out of memory: %zu bytes", bytes);
        return NULL;
    }
    return memset(p, 0, bytes);
}

void block_free(void *p, size_t bytes)
{
    free(p);
}
#else
/* Takes the pages now and with all threads: in the first step they would come one by one, each cleared when
 * it is met, which can take longer than the step. */
static void touch(volatile char *p, int64_t bytes)
{
    enum { PIECE = 4 * HUGE };
#pragma omp parallel for schedule(static) if (bytes > PIECE)
    for (int64_t i = 0; i < bytes; i += PIECE) {
        for (int64_t j = i; j < min64(bytes, i + PIECE); j += PAGE)
            p[j] = 0;
        alive();
    }
}

void *block_alloc(size_t bytes)
{
    size_t mapped = (size_t)round_up(max64((int64_t)bytes, 1), PAGE);
    void *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        error_errno("cannot allocate %zu bytes", bytes);
        return NULL;
    }
    if (mapped >= HUGE)
        madvise(p, mapped, MADV_HUGEPAGE); /* only a hint */
    touch(p, (int64_t)mapped);
    return p;
}

void block_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, (size_t)round_up(max64((int64_t)bytes, 1), PAGE));
}
#endif
