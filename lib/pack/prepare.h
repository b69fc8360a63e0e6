/* SPDX-License-Identifier: MIT */
/* What will be in an archive, before its first byte: all that the index has to say of the files. So each
 * file is read before it is packed, for its sum, unless it has one in a step's manifest. */
#ifndef PACK_PREPARE_H
#define PACK_PREPARE_H

#include "pack/base.h"
#include "pack/index.h"
#include "pack/pack.h"

/* Bytes [begin,end) of a file are numbers of 2 or 4 bytes. */
struct number_range {
    int64_t begin, end;
    int width;
    int kind; /* as in split.h: which state of the optimizer they are */
};

struct prepared_file {
    struct number_range *numbers; /* in order */
    int count;
    uint32_t packed_crc32; /* of what its members hold, before any xor */
};

struct expert_names;
struct prepared {
    const struct pack_request *request;
    struct pack_index index;
    struct prepared_file *files; /* as index.files */
    struct pack_base base;       /* where the request has one */
    struct expert_names *names;  /* while headers are read; NULL: no model that is known */
    int64_t made_bytes;          /* of all files: weights that need not be packed */
    int64_t xor_bytes;           /* and those that the base has too */
};

/* -1: status 2 for a directory that is not whole, 3 where it cannot be read. Changes nothing in it. */
int prepare(struct prepared *p, const struct pack_request *r);
void prepared_release(struct prepared *p);
/* What bytes [at,at+n) of a file's members are: into runs, which has room for `most`; how many. */
int64_t prepared_runs(const struct prepared *p, int file, int64_t at, int64_t n, struct split_run *runs,
                      int64_t most);

#endif
