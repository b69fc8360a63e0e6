/* SPDX-License-Identifier: MIT */
/* The work of a save, cut into units: contiguous bytes of one file, about 8 MiB of whole rows, each with one
 * writer. Every rank walks the same list and finds from the plan alone who holds what. */
#ifndef CKPT_UNITS_H
#define CKPT_UNITS_H

#include "ckpt/map.h"
#include "plan/shard.h"

/* Whole rows of one entry. */
struct segment {
    int entry;
    int64_t row, rows;
    int64_t at, bytes; /* in the unit */
};

struct unit {
    int64_t number;
    int file, writer;
    int64_t offset, bytes; /* in the file */
    struct segment *segments;
    int count, room;
};

/* What one rank gives to a unit: elements [first, first+count) of its flat buffer, which all belong to one
 * segment. */
struct contribution {
    int rank, segment;
    const struct shard *shard;
    int64_t first, count;
};

struct units {
    const struct ckpt_map *l;
    const struct plan *plan;
    struct shards **shards;   /* [world], made when first needed */
    int *by_pp, *by_pp_ep;    /* ranks sorted by pp, and by (pp, ep) */
    int *pp_first, *ep_first; /* where each pp, each (pp, ep) begins in those */
    int *layer_pp;            /* [layers] */
    int64_t *load;            /* [world] bytes written so far by each */
    int entry;                /* where the walk stands */
    int64_t row, number;
    struct unit now;
    struct contribution *list; /* of the unit that was asked about last */
    int list_count, list_room;
};

void units_init(struct units *u, const struct ckpt_map *l);
void units_release(struct units *u);
/* The next unit, in the order of the files; NULL at the end. Good until the next call. */
const struct unit *units_next(struct units *u);
/* Whether this rank may hold some of the unit: a cheap question before units_parts(). */
bool units_touch(const struct units *u, const struct unit *unit, int rank);
/* u->list: everyone's contributions, in a canonical order (segment, then rank, then place). -1 (status 2) when
 * they do not fill the unit: the plan's shards leave a hole. */
int units_parts(struct units *u, const struct unit *unit);
const struct shards *units_shards(struct units *u, int rank);
/* Whether optimizer state is cut over the replicas of this flat buffer. */
bool units_sliced(const struct units *u, const struct map_entry *e, const struct shards *s, enum flat flat);

/* Copies a contribution's elements between its packed form and their places in the unit's bytes. */
void unit_scatter(const struct units *u, const struct unit *unit, const struct contribution *c,
                  const void *packed, char *bytes);
/* Where the contribution lies in the unit when that is one run; -1 when it is in pieces. */
int64_t unit_run(const struct units *u, const struct unit *unit, const struct contribution *c);

#endif
