/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

static void *checked(void *p)
{
    if (!p) {
        fputs("out of memory\n", stderr);
        _Exit(STATUS_ENV);
    }
    return p;
}

void *xmalloc(size_t bytes)
{
    return checked(malloc(bytes ? bytes : 1));
}

void *xcalloc(size_t count, size_t bytes)
{
    return checked(calloc(count ? count : 1, bytes ? bytes : 1));
}

void *xrealloc(void *p, size_t count, size_t bytes)
{
    return checked(reallocarray(p, count ? count : 1, bytes));
}

void *xaligned(size_t align, size_t bytes)
{
    return checked(aligned_alloc(align, bytes ? bytes : align));
}

/* Not malloc()'s: what that gives may have been in use, in small pages. */
void *huge_alloc(size_t bytes)
{
    size_t whole = bytes + HUGE_PAGE;
    char *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        munmap(p, before);
    munmap(p + before + bytes, whole - before - bytes);
    madvise(p + before, bytes, MADV_HUGEPAGE); /* only a hint */
    return p + before;
}

void huge_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

char *xstrdup(const char *s)
{
    return checked(strdup(s));
}

char *xasprintf(const char *fmt, ...)
{
    char *s;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return checked(n < 0 ? NULL : s);
}

char *room_for(char **buffer, int64_t *room, int64_t bytes)
{
    if (*room < bytes) {
        free(*buffer);
        *buffer = xmalloc((size_t)bytes);
        *room = bytes;
    }
    return *buffer;
}
