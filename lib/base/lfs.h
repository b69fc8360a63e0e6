/* SPDX-License-Identifier: MIT */
/* Git LFS: a clone without it, or a download of the wrong kind, has a small text where each large file should
 * be. Such a text is told apart from a file that is merely broken, because what helps is another thing. */
#ifndef BASE_LFS_H
#define BASE_LFS_H

#include <stdbool.h>
#include <stddef.h>

/* Whether these are the first bytes (LFS_BYTES of them, or all there are) of a pointer. */
enum { LFS_BYTES = 128 };
bool lfs_pointer(const void *bytes, size_t count);
/* error() of status 2, which names `where` and says how to get the file; returns -1. */
int lfs_error(const char *where);
/* Of a file that is open: -1 with that error when it is a pointer, else 0 (also when it cannot be read). */
int lfs_refuse(int fd, const char *path);

#endif
