/* SPDX-License-Identifier: MIT */
#include "base/folder.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

int folder_open(struct folder *f, const char *path)
{
    *f = (struct folder){opendir(path), path, 0};
    int failed = errno;
    if (f->dir)
        return 0;
    error_errno("cannot open '%s'", path);
    errno = failed;
    return -1;
}

const char *folder_next(struct folder *f)
{
    errno = 0;
    for (struct dirent *e; (e = readdir(f->dir)); errno = 0)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            return e->d_name;
    f->failed = errno;
    return NULL;
}

int folder_close(struct folder *f, int r)
{
    closedir(f->dir);
    errno = f->failed;
    return r == 0 && f->failed ? error_errno("cannot read '%s'", f->path) : r;
}
