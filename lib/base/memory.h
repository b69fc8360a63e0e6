/* SPDX-License-Identifier: MIT */
/* Memory for small host tables, whose size a checked input bounds: these end the process (status 3) when there
 * is none. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

void *xmalloc(size_t bytes);
void *xcalloc(size_t count, size_t bytes);
void *xaligned(size_t align, size_t bytes); /* a multiple of align, which is a power of two */
void *xrealloc(void *p, size_t count, size_t bytes);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Memory in huge pages where the system has them: a disk fills it with fewer requests than small pages, which
 * there are up to 128 of in half a MiB. `bytes` is a multiple of HUGE_PAGE. It is all zero, and none of it is
 * taken before it is touched. NULL: there is none. */
#define HUGE_PAGE ((size_t)2 << 20)
void *huge_alloc(size_t bytes);
void huge_free(void *p, size_t bytes);

/* *buffer with room for `bytes`; what was in it is lost when it had to grow. *room: what it has now. Returns
 * it. */
char *room_for(char **buffer, int64_t *room, int64_t bytes);

#endif
