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

int outdir_open(struct outdir *o, const char *name)
{
    char *target = xstrdup(name);
    struct stat st;
    *o = (struct outdir){0};
    for (size_t n = strlen(target); n > 1 && target[n - 1] == '/'; n--)
        target[n - 1] = '\0';
    if (lstat(target, &st) == 0 && !(S_ISDIR(st.st_mode) && is_empty_dir(target))) {
        error(STATUS_USAGE, "'%s' is there already", target);
        free(target);
        return -1;
    }
    o->target = target;
    o->dir = xasprintf("%s.%d.tmp", target, (int)getpid());
    return 0;
}

int outdir_commit(struct outdir *o)
{
    if (rename(o->dir, o->target) != 0)
        return error_errno("cannot rename '%s' to '%s'", o->dir, o->target);
    return sync_parent(o->target);
}

int outdir_abandon(struct outdir *o)
{
    enum status status = error_status();
    char *text = xstrdup(error_text());
    remove_tree(o->dir);
    error(status, "%s", text);
    free(text);
    return -1;
}

void outdir_release(struct outdir *o)
{
    free(o->target);
    free(o->dir);
    *o = (struct outdir){0};
}
