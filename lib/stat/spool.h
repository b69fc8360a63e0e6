/* SPDX-License-Identifier: MIT */
/* A list of records of one size that may be longer than memory: the first SPOOL_BYTES are kept in memory, and
 * with one more all of them move to a file without a name in $TMPDIR (/tmp). Errors of that file wait for
 * spool_error(): what was not written is lost, what could not be read is zeros. */
#ifndef STAT_SPOOL_H
#define STAT_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPOOL_BYTES = 4 << 20 };

struct spool {
    size_t size, count; /* bytes of a record; records */
    char *memory;       /* all of them; or, with a file, what is not yet written there */
    size_t room, kept;  /* records that fit there; records that are there */
    int fd;             /* -1: all in memory */
    size_t limit;       /* bytes in memory before there is a file */
    int failed;         /* errno of what failed first */
};

/* A reader's window on a spool; each thread has its own. Zeroed at first. */
struct spool_window {
    size_t first, count;
    char *records;
};

void spool_init(struct spool *s, size_t size);
void spool_release(struct spool *s);
void spool_append(struct spool *s, const void *record);
/* No more is appended until spool_truncate(), and any thread may read. */
void spool_flush(struct spool *s);
/* Record i, until the window's next read. */
const void *spool_read(struct spool *s, struct spool_window *w, size_t i);
void spool_window_release(struct spool_window *w);
/* Overwrites record i. (Windows do not notice.) */
void spool_write(struct spool *s, size_t i, const void *record);
void spool_truncate(struct spool *s, size_t count);
/* Removes the first n, of a spool in memory. */
void spool_drop(struct spool *s, size_t n);
/* In ascending order, in place, however long it is. */
void spool_sort(struct spool *s, int (*compare)(const void *, const void *));
/* 0, or -1 with error() set. */
int spool_error(const struct spool *s);

#endif
