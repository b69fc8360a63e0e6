/* SPDX-License-Identifier: MIT */
#include "base/outdir.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

static bool is_empty_dir(const char *path)
{
    DIR *d = opendir(path);
    int names = 0;
    while (d && readdir(d))
        names++;
    if (d)
        closedir(d);
    return d && names <= 2;
}

/* What there is of the directory goes; the error stays what it was. */
static void abandon(const char *dir)
{
    enum status status = error_status();
    char *text = xstrdup(error_text());
    remove_tree(dir);
    error(status, "%s", text);
    free(text);
}

static int commit(const char *dir, const char *target)
{
    if (rename(dir, target) != 0)
        return error_errno("cannot rename '%s' to '%s'", dir, target);
    return sync_parent(target);
}

int outdir_fill(const char *name, int (*fill)(void *with, const char *dir), void *with)
{
    struct stat st;
    char *target = xstrdup(name);
    int rc = 0;
    for (size_t n = strlen(target); n > 1 && target[n - 1] == '/'; n--)
        target[n - 1] = '\0';
    char *dir = xasprintf("%s.%d.tmp", target, (int)getpid());
    if (!*target) {
        rc = error(STATUS_USAGE, "the directory to make is named ''");
    } else if (lstat(target, &st) == 0 && !(S_ISDIR(st.st_mode) && is_empty_dir(target))) {
        rc = error(STATUS_USAGE, "'%s' is there already", target);
    } else {
        rc = fill(with, dir);
        if (rc == 0)
            rc = commit(dir, target);
        if (rc < 0)
            abandon(dir);
    }
    free(dir);
    free(target);
    return rc;
}
