/* SPDX-License-Identifier: MIT */
/* What AddressSanitizer is told in a build that has it (SAN=1, gcc); in any other build these do nothing.
 *
 * It sees the ends of blocks of the heap, in code that was compiled with it. So what lies in one block is kept
 * apart by fences, and what is handed to a library that was not (oneDNN, MPI) is looked at first.
 */
#ifndef BASE_FENCE_H
#define BASE_FENCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>

enum { FENCE_BYTES = 64 };

/* Whoever touches these bytes is reported, until fence_take_down(). */
static inline void fence(void *p, size_t bytes)
{
    __asan_poison_memory_region(p, bytes);
}

static inline void fence_take_down(void *p, size_t bytes)
{
    __asan_unpoison_memory_region(p, bytes);
}

/* Reports the first byte that may not be touched, of `rows` rows of `bytes` bytes that begin `ld` apart. */
static inline void fence_look(const void *p, int64_t rows, size_t bytes, size_t ld)
{
    for (int64_t r = 0; r < rows; r++) {
        const volatile char *bad = __asan_region_is_poisoned((char *)(uintptr_t)p + (size_t)r * ld, bytes);
        if (bad)
            (void)*bad;
    }
}
#else
enum { FENCE_BYTES = 0 };
static inline void fence(void *p, size_t bytes)
{
}
static inline void fence_take_down(void *p, size_t bytes)
{
}
static inline void fence_look(const void *p, int64_t rows, size_t bytes, size_t ld)
{
}
#endif

#endif
