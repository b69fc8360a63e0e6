/* SPDX-License-Identifier: MIT */
/* The work of a load, cut into units: contiguous bytes of one file, whole ranges of its tensors where these
 * fit, each with one reader among the ranks of the node, which all have the same list. What nobody wants of a
 * checkpoint is checked all the same: the ranks of the job take turns with that.
 *
 * A range that no rank of the node wants a part of is read by others; so what a node's ranks read together is
 * what they want, once. Who reads what is even in bytes, and what one rank alone wants it reads itself where
 * that allows it. */
#ifndef CKPT_LOAD_UNITS_H
#define CKPT_LOAD_UNITS_H

#include "ckpt/catalog.h"
#include "plan/shard.h"
#include "tensors/convert.h"

/* At most: what is read, summed and copied by one processor stays in its cache meanwhile. */
#define UNIT_BYTES ((int64_t)1 << 19)

struct load_unit {
    int32_t file, reader; /* the reader: a rank */
    int64_t tensor;       /* the catalog's, in which it begins; others follow */
    int64_t begin;        /* in that tensor */
    int64_t at, bytes;    /* in the file */
    bool shared;          /* ranks of the node beside the reader want some of it */
};

/* What one rank gets of a unit: elements [first, first+count) of a shard, in the shard's order, for these
 * targets. They lie in the unit in rows, as those of the tensor's columns that the shard has. */
struct load_piece {
    const struct shard *shard;
    int64_t first, count;
    int64_t cols; /* of the tensor */
    int64_t base; /* where the tensor begins, in bytes from the unit's begin; it may be before that */
    enum number number;
    uint32_t targets;
};

struct load_units {
    const struct catalog *c;
    const struct plan *plan;
    const int *ranks; /* [count], the node's */
    int count;
    struct shards *shards; /* [count] */
    struct load_unit *list;
    int64_t unit_count, room;
};

struct load_pieces {
    struct load_piece *list;
    int count, room;
};

/* The job has `world` ranks. In time of what is stored, times the ranks of the node. */
void load_units_init(struct load_units *u, const struct catalog *c, const struct plan *p, const int *ranks,
                     int count, int world);
void load_units_release(struct load_units *u);
/* *out: what the node's k-th rank gets of the unit; caller frees its list after the last call. Returns their
 * bytes. */
int64_t load_units_pieces(const struct load_units *u, const struct load_unit *unit, int k,
                          struct load_pieces *out);

static inline int64_t piece_bytes(const struct load_piece *p)
{
    return p->count * number_bytes(p->number);
}
/* Where a piece lies in the unit when that is one run; -1 when it is in rows. */
int64_t piece_run(const struct load_piece *p);
/* A piece out of the unit's bytes, one element behind the other. */
void piece_pack(const struct load_piece *p, const char *unit, char *to);

#endif
