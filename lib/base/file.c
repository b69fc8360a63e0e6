/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/halt.h"
#include "base/memory.h"

char *file_read(const char *path, size_t max, size_t *size)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f) {
        error_errno("cannot open '%s'", path);
        return NULL;
    }
    size_t have = 0, room = 4096;
    char *text = xmalloc(room + 1);
    for (;;) {
        size_t piece = room - have < PIECE_BYTES ? room - have : PIECE_BYTES,
               n = fread(text + have, 1, piece, f);
        have += n;
        alive();
        if (n < piece || have > max)
            break;
        if (have < room)
            continue;
        room *= 2;
        text = xrealloc(text, room + 1, 1);
    }
    bool failed = ferror(f) != 0;
    if (failed)
        error_errno("cannot read '%s'", path);
    else if (have > max)
        failed = error(STATUS_USAGE, "%s: larger than %zu bytes", path, max) < 0;
    if (!is_stdin)
        fclose(f);
    if (failed) {
        free(text);
        return NULL;
    }
    text[have] = '\0';
    if (size)
        *size = have;
    return text;
}

int output_open(struct output *o, const char *path)
{
    *o = (struct output){.stream = stdout};
    if (!path || strcmp(path, "-") == 0)
        return 0;
    o->path = xstrdup(path);
    o->temporary = xasprintf("%s.%d.tmp", path, (int)getpid());
    o->stream = fopen(o->temporary, "wb");
    if (!o->stream) {
        error_errno("cannot write '%s'", path);
        free(o->path);
        free(o->temporary);
        *o = (struct output){0};
        return -1;
    }
    return 0;
}

int output_commit(struct output *o)
{
    if (!o->path) {
        if (fflush(stdout) || ferror(stdout))
            return error_errno("cannot write to standard output");
        return 0;
    }
    bool bad = ferror(o->stream) || fflush(o->stream) || file_sync(fileno(o->stream));
    int e = errno;
    bad |= fclose(o->stream) != 0;
    o->stream = NULL;
    if (bad || rename(o->temporary, o->path) != 0) {
        if (bad)
            errno = e;
        error_errno("cannot write '%s'", o->path);
        output_abandon(o);
        return -1;
    }
    free(o->path);
    free(o->temporary);
    *o = (struct output){0};
    return 0;
}

void output_abandon(struct output *o)
{
    if (!o->path)
        return;
    if (o->stream)
        fclose(o->stream);
    unlink(o->temporary);
    free(o->path);
    free(o->temporary);
    *o = (struct output){0};
}

int pread_all(int fd, void *p, size_t bytes, int64_t offset, const char *path)
{
    for (size_t done = 0; done < bytes;) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        halt_io("read");
        ssize_t n = pread(fd, (char *)p + done, piece, offset + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno("cannot read '%s'", path);
        if (n == 0)
            return error(STATUS_USAGE, "%s: ends at byte %lld, %zu bytes short", path,
                         (long long)(offset + (int64_t)done), bytes - done);
        done += n;
        alive();
    }
    return 0;
}

int pwrite_all(int fd, const void *p, size_t bytes, int64_t offset, const char *path)
{
    for (size_t done = 0; done < bytes;) {
        size_t piece = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        halt_io("write");
        ssize_t n = pwrite(fd, (const char *)p + done, piece, offset + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno("cannot write '%s'", path);
        if (n == (ssize_t)PIECE_BYTES) /* the disk begins with it now: the last fsync is short */
            sync_file_range(fd, offset + (int64_t)done, n, SYNC_FILE_RANGE_WRITE);
        done += n;
        alive();
    }
    return 0;
}

int file_sync(int fd)
{
    struct stat st;
    const int wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        /* Where there is no such call, or it fails, fsync has all of it to do, and to report. */
        for (off_t at = 0; at < st.st_size; at += (off_t)PIECE_BYTES) {
            if (sync_file_range(fd, at, (off_t)PIECE_BYTES, wait) != 0)
                break;
            alive();
        }
    }
    int r = fsync(fd);
    alive();
    return r;
}

int make_dirs(const char *path)
{
    char *p = xstrdup(path);
    for (char *slash = p + 1;; slash++) {
        if (*slash && *slash != '/')
            continue;
        char keep = *slash;
        *slash = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            error_errno("cannot make directory '%s'", p);
            free(p);
            return -1;
        }
        *slash = keep;
        if (!keep)
            break;
    }
    free(p);
    if (!is_dir(path))
        return error(STATUS_USAGE, "'%s' is not a directory", path);
    return 0;
}

int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return error_errno("cannot open '%s'", path);
    int r = fsync(fd);
    close(fd);
    return r && errno != EINVAL ? error_errno("cannot sync '%s'", path) : 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    alive();
    return remove(path);
}

int remove_tree(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return error_errno("cannot remove '%s'", path);
    return 0;
}

bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    return xasprintf("%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

int stdout_close(void)
{
    bool bad = ferror(stdout) != 0;
    if (fclose(stdout) != 0 || bad)
        return error_errno("cannot write to standard output");
    return 0;
}
