/* SPDX-License-Identifier: MIT */
#include "base/lfs.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"

bool lfs_pointer(const void *bytes, size_t count)
{
    static const char start[] = "version https://git-lfs.github.com/spec/v";
    return count >= sizeof start - 1 && memcmp(bytes, start, sizeof start - 1) == 0 &&
           memmem(bytes, count < LFS_BYTES ? count : LFS_BYTES, "\noid ", 5);
}

int lfs_error(const char *where)
{
    return error(STATUS_USAGE, "%s: is a Git LFS pointer, not the file it stands for: 'git lfs pull' gets that",
                 where);
}

int lfs_refuse(int fd, const char *path)
{
    char start[LFS_BYTES];
    ssize_t n = pread(fd, start, sizeof start, 0);
    return n > 0 && lfs_pointer(start, (size_t)n) ? lfs_error(path) : 0;
}
