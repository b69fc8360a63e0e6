/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/halt.h"
#include "base/memory.h"
#include "base/num.h"

static atomic_llong bytes_read;

int64_t file_bytes_read(void)
{
    return atomic_load(&bytes_read);
}

int stdin_take(void)
{
    static bool taken;
    if (taken)
        return error(STATUS_USAGE, "standard input can be read once: '-' is named twice");
    taken = true;
    return 0;
}

char *file_read(const char *path, size_t max, size_t *size)
{
    bool is_stdin = strcmp(path, "-") == 0;
    if (is_stdin && stdin_take() < 0)
        return NULL;
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
    atomic_fetch_add(&bytes_read, (long long)have);
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

int file_nameless(void)
{
    const char *dir = getenv("TMPDIR");
    char *path = xasprintf("%s/moekit-XXXXXX", dir && *dir ? dir : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd;
}

/* ---- output ---- */

/* The descriptor that a name of the kind of /dev/stdout or /dev/fd/3 stands for, or -1. To open such a name
 * again would begin anew at the start of its file, and to replace it would replace the name. */
static int descriptor_of(const char *path)
{
    static const char *const folder[] = {"/dev/fd/", "/proc/self/fd/"};
    if (strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0)
        return strcmp(path, "/dev/stdout") == 0 ? STDOUT_FILENO : STDERR_FILENO;
    for (size_t i = 0; i < sizeof folder / sizeof *folder; i++) {
        size_t n = strlen(folder[i]);
        int64_t fd;
        if (strncmp(path, folder[i], n) == 0 && parse_int(path + n, 0, INT32_MAX, &fd))
            return (int)fd;
    }
    return -1;
}

/* Where symbolic links lead to, whether anything is there or not; NULL with errno when they go in a circle. */
static char *behind_links(const char *path)
{
    char *at = xstrdup(path), target[PATH_MAX];
    for (int i = 0; i < 40; i++) {
        ssize_t n = readlink(at, target, sizeof target - 1);
        if (n < 0)
            return at; /* no link */
        target[n] = '\0';
        char *dir = path_parent(at), *next = *target == '/' ? xstrdup(target) : path_join(dir, target);
        free(dir);
        free(at);
        at = next;
    }
    free(at);
    errno = ELOOP;
    return NULL;
}

static FILE *open_beside(struct output *o, const char *path, const struct stat *st)
{
    if (st &&
        access(path, W_OK) != 0) /* as to write in place: a file that may not be written is not replaced */
        return NULL;
    errno = ENOENT;
    o->path = *path ? behind_links(path) : NULL; /* "" is what an unset variable gives */
    if (!o->path)
        return NULL;
    o->temporary = xasprintf("%s.%d.tmp", o->path, (int)getpid());
    FILE *f = fopen(o->temporary, "wb");
    if (f && st)
        (void)!fchmod(fileno(f), st->st_mode & 0777);
    return f;
}

int output_open(struct output *o, const char *path)
{
    *o = (struct output){.stream = stdout};
    int fd = !path || strcmp(path, "-") == 0 ? STDOUT_FILENO : descriptor_of(path);
    if (fd == STDOUT_FILENO)
        return 0;
    *o = (struct output){0};
    struct stat st;
    bool there = fd < 0 && stat(path, &st) == 0;
    if (fd >= 0) {
        fd = dup(fd);
        o->stream = fd < 0 ? NULL : fdopen(fd, "wb");
    } else if (there && !S_ISREG(st.st_mode)) {
        o->stream = fopen(path, "wb");
    } else {
        o->stream = open_beside(o, path, there ? &st : NULL);
    }
    if (o->stream && !o->path)
        o->path = xstrdup(path);
    if (!o->stream) {
        error_errno("cannot write '%s'", path);
        free(o->path);
        free(o->temporary);
        *o = (struct output){0};
        return -1;
    }
    return 0;
}

int output_check(const char *path)
{
    struct output o;
    struct stat st;
    if (!path || strcmp(path, "-") == 0)
        return 0;
    int fd = descriptor_of(path);
    if (fd >= 0)
        return fcntl(fd, F_GETFD) < 0 ? error_errno("cannot write '%s'", path) : 0;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) /* a FIFO waits to be opened */
        return access(path, W_OK) < 0 ? error_errno("cannot write '%s'", path) : 0;
    TRY(output_open(&o, path));
    output_abandon(&o);
    return 0;
}

static void output_free(struct output *o)
{
    free(o->path);
    free(o->temporary);
    *o = (struct output){0};
}

int output_commit(struct output *o)
{
    if (!o->path) {
        if (fflush(stdout) || ferror(stdout))
            return error_errno("cannot write to standard output");
        return 0;
    }
    bool bad = ferror(o->stream) || fflush(o->stream);
    int r = bad ? error_errno("cannot write '%s'", o->path) : file_sync(fileno(o->stream), o->path);
    if (fclose(o->stream) != 0 && r == 0)
        r = error_errno("cannot write '%s'", o->path);
    o->stream = NULL;
    if (r == 0 && o->temporary && rename(o->temporary, o->path) != 0)
        r = error_errno("cannot write '%s'", o->path);
    if (r < 0) {
        output_abandon(o);
        return -1;
    }
    r = o->temporary ? sync_parent(o->path) : 0;
    output_free(o);
    return r;
}

void output_abandon(struct output *o)
{
    if (!o->path)
        return;
    if (o->stream)
        fclose(o->stream);
    if (o->temporary)
        unlink(o->temporary);
    output_free(o);
}

#define WRITE_BACK_BYTES (1 << 20) /* what is less waits for the fsync */

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
        atomic_fetch_add(&bytes_read, n);
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
        if (n >= WRITE_BACK_BYTES) /* the disk begins with it now: the last fsync is short */
            sync_file_range(fd, offset + (int64_t)done, n, SYNC_FILE_RANGE_WRITE);
        done += n;
        alive();
    }
    return 0;
}

int64_t page_bytes(void)
{
    return sysconf(_SC_PAGESIZE);
}

/* Pages [begin,end) of the file; p is what begins there. Returns where it ended: before `end` where the file
 * system will not have it so; or -1. */
static int64_t write_pages(int direct, const char *p, int64_t begin, int64_t end, const char *path)
{
    for (int64_t done = begin; done < end;) {
        halt_io("write");
        ssize_t n = pwrite(direct, p + (done - begin), (size_t)min64(end - done, PIECE_BYTES), done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || (n < 0 && errno == EINVAL))
            return done;
        if (n < 0)
            return error_errno("cannot write '%s'", path);
        done += n;
        alive();
    }
    return end;
}

int pwrite_direct(int fd, int direct, const void *p, size_t bytes, int64_t offset, const char *path)
{
    const char *from = p;
    int64_t page = page_bytes(), stop = offset + (int64_t)bytes, begin = round_up(offset, page),
            end = stop - stop % page;
    if (direct < 0 || begin >= end)
        return pwrite_all(fd, p, bytes, offset, path);
    int64_t done = write_pages(direct, from + (begin - offset), begin, end, path);
    if (done < 0)
        return -1;
    TRY(pwrite_all(fd, from, (size_t)(begin - offset), offset, path));
    return pwrite_all(fd, from + (done - offset), (size_t)(stop - done), done, path);
}

/* Pages from `at` on, as far as `stop`; p is what begins at `at`. Returns where it ended: before `stop` where
 * the file does, or its system will not have it so; or -1. */
static int64_t read_pages(int direct, char *p, int64_t at, int64_t stop, const char *path)
{
    int64_t page = page_bytes(), done = at;
    while (done < stop && (done - at) % page == 0) {
        halt_io("read");
        ssize_t n =
            pread(direct, p + (done - at), (size_t)min64(round_up(stop - done, page), PIECE_BYTES), done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || (n < 0 && errno == EINVAL))
            break;
        if (n < 0)
            return error_errno("cannot read '%s'", path);
        done += n;
        alive();
    }
    return min64(done, stop);
}

int pread_direct(int fd, int direct, void *p, size_t bytes, int64_t offset, const char *path)
{
    char *to = p;
    if (direct < 0)
        return pread_all(fd, p, bytes, offset, path);
    int64_t before = offset % page_bytes(), stop = offset + (int64_t)bytes,
            done = read_pages(direct, to - before, offset - before, stop, path);
    if (done < 0)
        return -1;
    done = max64(done, offset);
    atomic_fetch_add(&bytes_read, done - offset);
    return pread_all(fd, to + (done - offset), (size_t)(stop - done), done, path);
}

/* ---- directories, and what a crash leaves ---- */

/* So that the fsync that ends it finds little to do. Where there is no such call, or it fails, that has all
 * of it to do, and to report. */
static void write_back(int fd)
{
    struct stat st;
    const int wait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    for (off_t at = 0; at < st.st_size; at += (off_t)PIECE_BYTES) {
        if (sync_file_range(fd, at, (off_t)PIECE_BYTES, wait) != 0)
            return;
        alive();
    }
}

int file_close(int fd, int r, const char *path)
{
    if (fd >= 0 && close(fd) != 0 && r == 0)
        return error_errno("cannot write '%s'", path);
    return r;
}

int file_sync(int fd, const char *path)
{
    write_back(fd);
    int r = fsync(fd);
    alive();
    if (r == 0 || errno == EINVAL || errno == EROFS)
        return 0;
    return error_errno("cannot sync '%s'", path);
}

int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) /* one that may be searched and written but not read cannot be opened, nor be synced */
        return errno == EACCES ? 0 : error_errno("cannot open '%s'", path);
    int r = file_sync(fd, path);
    close(fd);
    return r;
}

int sync_parent(const char *path)
{
    char *dir = path_parent(path);
    int r = sync_dir(dir);
    free(dir);
    return r;
}

static int make_dir(const char *path)
{
    if (mkdir(path, 0777) == 0)
        return sync_parent(path);
    return errno == EEXIST ? 0 : error_errno("cannot make directory '%s'", path);
}

int make_dirs(const char *path)
{
    char *p = xstrdup(path);
    int r = 0;
    for (char *slash = p + 1; r == 0; slash++) {
        if (*slash && *slash != '/')
            continue;
        char keep = *slash;
        *slash = '\0';
        r = make_dir(p);
        *slash = keep;
        if (!keep)
            break;
    }
    free(p);
    if (r == 0 && !is_dir(path))
        r = error(STATUS_USAGE, "'%s' is not a directory", path);
    return r;
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

char *path_absolute(const char *path)
{
    char *here = *path == '/' ? NULL : getcwd(NULL, 0);
    char *whole = here ? path_join(here, path) : xstrdup(path);
    free(here);
    return whole;
}

char *path_parent(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') /* "a/b/" is in a too */
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n ? xasprintf("%.*s", (int)n, path) : xstrdup(".");
}

/* The nearest directory above the path that is there, as the system knows it; caller frees. */
static char *real_parent(const char *path)
{
    char *at = path_absolute(path), *real = NULL;
    while (!real && strcmp(at, "/") != 0) {
        char *above = path_parent(at);
        free(at);
        at = above;
        real = realpath(at, NULL);
    }
    free(at);
    return real;
}

bool path_within(const char *path, const char *dir)
{
    char *whole = realpath(dir, NULL), *target = realpath(path, NULL);
    char *above = real_parent(target ? target : path);
    size_t n = whole ? strlen(whole) : 0;
    bool within = whole && above && strncmp(above, whole, n) == 0 && (above[n] == '/' || !above[n]);
    free(whole);
    free(target);
    free(above);
    return within;
}

void standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) /* open() takes the least number that is free */
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int stdout_close(void)
{
    bool bad = ferror(stdout) != 0;
    if (fclose(stdout) != 0 || bad)
        return error_errno("cannot write to standard output");
    return 0;
}
