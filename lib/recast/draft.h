/* SPDX-License-Identifier: MIT */
/* A directory of safetensors files that is to be written, and what each of its tensors is made of: runs of
 * numbers of other directories, end to end. No number is in memory before it is written, piece by piece. */
#ifndef RECAST_DRAFT_H
#define RECAST_DRAFT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ckpt/manifest.h"
#include "model/inventory.h"
#include "tensors/convert.h"
#include "tensors/hfdir.h"

struct piece {
    struct hf_dir *dir; /* NULL: `count` numbers drawn from normal(0, std) */
    int file;
    enum number from;
    int64_t offset, count; /* bytes in the file's data; numbers */
    double std;
    struct piece *others; /* [other_count], the draft's: each number is the mean of this one and theirs */
    int other_count;
};

struct made_tensor {
    char *name;
    int file; /* in the draft */
    enum number to;
    int dims;
    int64_t shape[3], bytes;
    struct piece *pieces;
    int count, room;
    uint32_t crc32; /* once it is written */
};

struct draft_file {
    char *name; /* "optimizer/dense.safetensors" */
    int64_t bytes;
};

struct draft {
    struct made_tensor *list;
    int count, room;
    struct draft_file *files;
    int file_count;
    uint64_t seed;          /* of what is drawn */
    int64_t written, total; /* bytes, for progress */
};

/* The file of that name, added when new. */
int draft_file(struct draft *d, const char *name);
/* A tensor of that shape, with no pieces yet. Good until the next. */
struct made_tensor *draft_tensor(struct draft *d, int file, const char *name, enum number to, int dims,
                                 const int64_t *shape);
/* Adds to the tensor, which takes over p.others; numbers that follow the last ones in the same file become one
 * piece with them. */
void made_add(struct made_tensor *m, struct piece p);
/* Gives every tensor a file anew: model.safetensors, or model-00001-of-0000N.safetensors with no more than so
 * many bytes of data each, unless one tensor alone has more. */
void draft_shard(struct draft *d, int64_t bytes);
#define SHARD_BYTES ((int64_t)5000000000)   /* where transformers cuts */
int64_t draft_bytes(const struct draft *d); /* of all its tensors */

/* Writes the files into the directory, which must be there, each synced; and, unless the one file is
 * model.safetensors, the index of those that are not in a folder. They are added to the manifest (or NULL).
 * `doing` is shown as progress. -1: the pieces cannot be read (2), a disk fails (3). */
int draft_write(struct draft *d, const char *dir, struct manifest *m, const char *doing);
/* A draft of one file, to a stream; `name` is for messages. */
int draft_write_stream(struct draft *d, FILE *stream, const char *name, const char *doing);
void draft_release(struct draft *d);

#endif
