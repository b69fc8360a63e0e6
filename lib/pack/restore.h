/* SPDX-License-Identifier: MIT */
/* Archives become directories again, or are proved whole. */
#ifndef PACK_RESTORE_H
#define PACK_RESTORE_H

#include <stdint.h>

#include "ckpt/verify.h"

struct restore_request {
    const char *archive; /* "-": stdin */
    const char *dir;     /* must not be there, or be empty */
    const char *experts; /* NULL: all that is in it */
    const char *base;    /* the directory that it was packed with; NULL: none */
    int threads;         /* ≥ 1 */
};

struct restored {
    int files, left_out;
    int64_t bytes; /* of the files */
    int64_t read;  /* of the archive */
    bool skipped;  /* members were passed over unread: the archive's own sum was not compared */
};

/* Every file gets its bytes, mode and time, and its sum is compared; then the directory gets its name. -1:
 * status 2 for an archive that is damaged or not ours, or another base; 3 where the environment failed. Then
 * nothing has the name. */
int restore_archive(const struct restore_request *r, struct restored *done);

/* Whether an archive is whole: every bit of it. As verify_dir(); *about: what it holds, in a few words. */
int verify_archive(struct verified *v, const char *path, int threads, char about[static 160]);

#endif
