/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
