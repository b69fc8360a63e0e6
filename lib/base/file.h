/* SPDX-License-Identifier: MIT */
/* Files: whole reads with a bound, output that appears under its name only when complete. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The whole file (`-`: stdin), NUL-terminated, at most `max` bytes; caller frees. NULL with error() set. */
char *file_read(const char *path, size_t max, size_t *size);
/* For who reads standard input: -1 with error() where somebody has, to whom all of it went. */
int stdin_take(void);

/* What a command writes. `-` and NULL are stdout, and so is /dev/stdout; /dev/fd/N is descriptor N. A file, or
 * one that is not there yet, is written beside its name and renamed by output_commit(): it keeps its mode, and
 * a link to it stays a link. Anything else that has the name (a device, a FIFO) is no file to replace, and is
 * written in place. output_abandon() removes what is not in place. Between the two write to ->stream. */
struct output {
    FILE *stream;
    char *path, *temporary; /* both NULL for stdout; temporary is NULL in place */
};
int output_open(struct output *o, const char *path);
/* For a command that works for long before it writes: fails where output_open() would, and leaves nothing. */
int output_check(const char *path);
/* Flush, sync, rename, sync of the directory. An error of any earlier write is found here. */
int output_commit(struct output *o);
void output_abandon(struct output *o);

/* All bytes at this offset, across short transfers and EINTR, with signs of life (base/alive.h). A read past
 * the end is an error. */
int pread_all(int fd, void *p, size_t bytes, int64_t offset, const char *path);
int pwrite_all(int fd, const void *p, size_t bytes, int64_t offset, const char *path);
/* As pwrite_all(), but whole pages go past the page cache, which spares the processor a copy and training its
 * memory: through `direct`, a descriptor of the same file with O_DIRECT, or -1 where the file system has no
 * such thing. For this `p` must be as far from the begin of a page in memory as `offset` is in the file
 * (page_bytes()). What does not fill a page goes by `fd`, and so does what the file system refuses. */
int pwrite_direct(int fd, int direct, const void *p, size_t bytes, int64_t offset, const char *path);
/* As pread_all(), by whole pages and past the page cache, on the same terms: the pages of memory in which p
 * begins and ends are the caller's, and what else is in them is lost. */
int pread_direct(int fd, int direct, void *p, size_t bytes, int64_t offset, const char *path);
int64_t page_bytes(void);

/* How many bytes this process has got from files by file_read() and pread_all(), all its threads together. */
int64_t file_bytes_read(void);

/* What must outlast a crash of the host: the file is synced, and when its name is new, so is the directory
 * that has it. Where there is no disk to be on (a pipe, a device: EINVAL; a file system that cannot be
 * written: EROFS) that is no error. `path` is for messages. A file goes to the disk piece by piece, with
 * signs of life. */
int file_sync(int fd, const char *path);
/* Closes a descriptor that was written through; -1 is none. `r`, or -1 with error() where that was 0 and the
 * close fails, in which network file systems tell of writes that were lost. */
int file_close(int fd, int r, const char *path);
int sync_dir(const char *path);
int sync_parent(const char *path); /* of the directory that this name is in */

/* A file that has no name, in $TMPDIR (/tmp), to write and read: it goes when it is closed. A descriptor, or -1
 * with errno. */
int file_nameless(void);

int make_dirs(const char *path);   /* mkdir -p; what it makes is synced */
int remove_tree(const char *path); /* rm -r; a path that is not there is fine */
bool is_dir(const char *path);
bool file_exists(const char *path);
char *path_join(const char *dir, const char *name);  /* caller frees */
char *path_absolute(const char *path);               /* from the root, links as they are; caller frees */
char *path_parent(const char *path);                 /* the directory that this name is in; caller frees */
bool path_within(const char *path, const char *dir); /* whether it lies there, or would, links followed */

/* For the begin of main: a standard stream that is closed (>&-) becomes one that fails, lest a file that is
 * opened gets its number, and has in it what was meant for people. */
void standard_streams(void);
/* fclose(stdout) checked, for the end of main: 0 or -1. One that was closed from the start is no error where
 * nothing was printed. */
int stdout_close(void);

#endif
