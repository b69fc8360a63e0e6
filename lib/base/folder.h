/* SPDX-License-Identifier: MIT */
/* What is in a directory. A listing that breaks off is an error: half of the names would pass for all.
 *
 *     struct folder f;
 *     TRY(folder_open(&f, path));
 *     int r = 0;
 *     for (const char *name; r == 0 && (name = folder_next(&f));)
 *         r = …;
 *     return folder_close(&f, r);
 */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include <dirent.h>

struct folder {
    DIR *dir;
    const char *path; /* the caller's, until folder_close() */
    int failed;       /* errno of the listing */
};

/* 0, or -1 with error() and errno; then there is nothing to close. */
int folder_open(struct folder *f, const char *path);
/* The next name, without `.` and `..`, until the next call; NULL behind the last one, or where the listing
 * broke off, of which folder_close() tells. */
const char *folder_next(struct folder *f);
/* `r`, or -1 with error() where that was 0 and the listing broke off. */
int folder_close(struct folder *f, int r);

#endif
