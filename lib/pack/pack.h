/* SPDX-License-Identifier: MIT */
/* A directory of a model, or a step, becomes an archive: moe-archive(5). */
#ifndef PACK_PACK_H
#define PACK_PACK_H

#include <stdint.h>

#include "pack/codec.h"

struct pack_request {
    const char *dir;
    const char *out;     /* NULL or "-": stdout */
    const char *experts; /* NULL: all */
    const char *base;    /* NULL: none. Needs CODEC_SPLIT */
    enum codec codec;
    int threads; /* ≥ 1 */
};

struct packed {
    int files;
    int64_t bytes;      /* of the directory's files that are in it */
    int64_t archive;    /* of the archive */
    int64_t made_bytes; /* of weights that need not be in it */
};

/* The archive gets its name when it is whole. -1: status 2 for a directory that is no whole checkpoint or that
 * changed meanwhile, 3 where the environment failed; then there is nothing under the name. Memory: at most
 * PACK_BUFFERS and the tables of names. */
int pack_dir(const struct pack_request *r, struct packed *done);

/* Bytes of parts that may be in memory at once, when packing and when restoring. */
#define PACK_BUFFERS ((int64_t)144 << 20)
/* Of the threads asked for, how many parts of that size leave room for, each needing `each` times the part's
 * bytes for itself, and twice for each of its two jobs. */
int pack_threads(int threads, int64_t part_bytes, int each);
/* One for each processor. */
int pack_all_threads(void);

#endif
