/* SPDX-License-Identifier: MIT */
/* A file read by large pieces: from the page cache what is there, and the rest from the disk past it. That
 * spares the processor a copy, and the page cache what is read once. The next reader finds nothing there, as
 * after pwrite_direct(). */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* Begins as {.fd = -1}. */
struct paged_file {
    char *path;
    int fd, direct; /* of the same file, with O_DIRECT; -1 where the file system has no such thing */
    char *map; /* [mapped], never read: it is asked what of the file the page cache has. NULL: nothing can be */
    int64_t mapped;
};

/* 0 or -1 with error(). What was open is closed before. */
int paged_open(struct paged_file *f, const char *path);
/* As pread_all(); p is as pread_direct() wants it. */
int paged_read(const struct paged_file *f, void *p, size_t bytes, int64_t offset);
void paged_close(struct paged_file *f);

#endif
