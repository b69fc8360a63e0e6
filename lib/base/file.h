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

/* A file written beside its final name and renamed by output_commit(); `-` or NULL is stdout. output_abandon()
 * removes it. Between the two write to ->stream. */
struct output {
    FILE *stream;
    char *path, *temporary; /* NULL for stdout */
};
int output_open(struct output *o, const char *path);
int output_commit(struct output *o); /* flush, fsync, rename; an error of any earlier write is found here */
void output_abandon(struct output *o);

/* All bytes at this offset, across short transfers and EINTR, with signs of life (base/alive.h). A read past
 * the end is an error. */
int pread_all(int fd, void *p, size_t bytes, int64_t offset, const char *path);
int pwrite_all(int fd, const void *p, size_t bytes, int64_t offset, const char *path);

/* fsync, with signs of life: the file goes to the disk piece by piece first. 0, or -1 with errno. */
int file_sync(int fd);

int make_dirs(const char *path);   /* mkdir -p */
int sync_dir(const char *path);    /* fsync of a directory */
int remove_tree(const char *path); /* rm -r; a path that is not there is fine */
bool is_dir(const char *path);
bool file_exists(const char *path);
char *path_join(const char *dir, const char *name); /* caller frees */

/* fclose(stdout) checked, for the end of main: 0 or -1. */
int stdout_close(void);

#endif
