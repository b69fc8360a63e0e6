/* SPDX-License-Identifier: MIT */
#include "pack/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/words.h"

enum { MOST_DEPTH = 16 };

static int walk(struct pack_index *ix, const char *dir, const char *prefix, int depth);

static int add(struct pack_index *ix, const char *path, const char *name, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return error_errno("cannot read '%s'", path);
    if (!index_name_ok(name))
        return error(STATUS_USAGE, "'%s' has a name that an archive cannot hold", path);
    if (S_ISREG(st.st_mode)) {
        struct packed_file *f = index_add_file(ix, xstrdup(name));
        f->bytes = st.st_size;
        f->mode = (int)(st.st_mode & 0777);
        f->mtime = st.st_mtim.tv_sec;
        f->mtime_ns = (int)st.st_mtim.tv_nsec;
    } else if (S_ISDIR(st.st_mode)) {
        return walk(ix, path, name, depth + 1);
    } else {
        complain("'%s' is neither a file nor a directory, and is passed over", path);
    }
    return 0;
}

/* `prefix`: the directory's own name in the index, "" for the first. */
static int walk(struct pack_index *ix, const char *dir, const char *prefix, int depth)
{
    struct stat st;
    if (depth > MOST_DEPTH)
        return error(STATUS_USAGE, "'%s': more than %d directories within each other", dir, MOST_DEPTH);
    struct folder f;
    TRY(folder_open(&f, dir));
    int rc = fstat(dirfd(f.dir), &st) != 0 ? error_errno("cannot read '%s'", dir) : 0;
    struct packed_dir *x = index_add_dir(ix, xstrdup(*prefix ? prefix : "."));
    *x = (struct packed_dir){x->name, (int)(st.st_mode & 0777), st.st_mtim.tv_sec, (int)st.st_mtim.tv_nsec};
    for (const char *found; rc == 0 && (found = folder_next(&f));) {
        if (found[0] == '.') {
            verbose("'%s/%s' is passed over", dir, found);
            continue;
        }
        char *path = path_join(dir, found), *name = *prefix ? path_join(prefix, found) : xstrdup(found);
        rc = add(ix, path, name, depth);
        free(path);
        free(name);
    }
    return folder_close(&f, rc);
}

static int file_order(const void *a, const void *b)
{
    return strcmp(((const struct packed_file *)a)->name, ((const struct packed_file *)b)->name);
}

static int dir_order(const void *a, const void *b)
{
    return strcmp(((const struct packed_dir *)a)->name, ((const struct packed_dir *)b)->name);
}

int tree_walk(struct pack_index *ix, const char *dir)
{
    TRY(walk(ix, dir, "", 0));
    if (!ix->file_count)
        return error(STATUS_USAGE, "'%s' holds no files", dir);
    qsort(ix->files, ix->file_count, sizeof *ix->files, file_order);
    qsort(ix->dirs, ix->dir_count, sizeof *ix->dirs, dir_order);
    return 0;
}

bool tree_is_safetensors(const char *name)
{
    return ends_in(name, ".safetensors");
}
