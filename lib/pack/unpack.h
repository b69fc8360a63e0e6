/* SPDX-License-Identifier: MIT */
/* Reading an archive: its index, then its members, which must be those that the index names, in order. */
#ifndef PACK_UNPACK_H
#define PACK_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "pack/index.h"
#include "pack/tape.h"

struct unpack {
    char *path; /* for messages */
    struct tape_reader *tape;
    struct pack_index index;
    bool *keep; /* [files] which are wanted: all, until the caller changes it */
    int threads;
    int64_t done, total; /* bytes of the wanted files' members */
    const char *doing;   /* for progress: "verifying" */
};

/* What is done with a part, in any thread; `hand` as in crew.h. p may be changed. *crc32 is its sum when given,
 * and that of what it has become when done. */
typedef int unpack_part(void *with, int file, int64_t at, uint8_t *p, int64_t n, uint32_t *crc32, int hand);

/* Opens it (`-`: stdin) and reads its index. -1: status 2 for what is no archive of ours, 3 where it cannot be
 * read; *newer (or NULL): it is for a newer moekit. */
int unpack_open(struct unpack *u, const char *path, int threads, bool *newer);
void unpack_close(struct unpack *u);
/* Reads all members, those of wanted files through part() (NULL: only their sums are looked at), and compares
 * the sum of every wanted file that is not made in part, and not xor'ed unless part() undid that: `whole` says
 * so. The sum of the archive too, unless members were passed over. -1: status 2, or 3. */
int unpack_files(struct unpack *u, unpack_part *part, void *with, bool whole);

#endif
