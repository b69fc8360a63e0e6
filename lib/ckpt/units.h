/* SPDX-License-Identifier: MIT */
/* The work of a save, cut into units: contiguous bytes of one file, whole rows, each with one writer. A rank
 * walks the units of the tensors that it holds, and finds by arithmetic who writes each and who gives what:
 * nothing is kept for ranks that it has no business with.
 *
 * The ranks of a pipeline rank hold its dense tensors, and the experts of an ep index only those that are
 * there too: a group of etp·edp ranks. Each group writes all bytes of its experts and then a share of the dense
 * ones, larger where it has fewer of experts: laid end to end these are cut into slots of equal size, which
 * its ranks take in turn. So everyone writes the same number of bytes, in pieces of 4 to 8 MiB where there is
 * as much, and what follows in a file is written by others at the same time. A row belongs to the slot of its
 * last byte.
 *
 *   ep 2, two ranks a group, 40 MiB of dense tensors, 24 MiB of experts a group: 44 MiB, 6 slots of 7⅓ MiB
 *   group 0   experts [0,7⅓) rank 0   [7⅓,14⅔) rank 1   [14⅔,22) rank 0   [22,24) rank 1, and dense [0,5⅓)
 *             dense [5⅓,12⅔) rank 0   [12⅔,20) rank 1
 *   group 1   its experts likewise by ranks 2 and 3; dense [20,40)
 *
 * What replicas all have comes from the writer's own; ZeRO slices from whoever has them. The walk is in the
 * order of files and places on every rank, so that the messages between any two ranks are in one order too. */
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
    int file, writer;
    int64_t offset, bytes; /* in the file */
    struct segment *segments;
    int count, room;
};

/* What one rank gives to a unit: elements [first, first+count) of its flat buffer, which all belong to one
 * segment and, of a state, to one of its slices. */
struct contribution {
    int rank, segment;
    const struct shard *shard;
    int64_t first, count;
};

/* An entry of the map that this rank holds some of. */
struct held {
    int entry;
    int64_t at; /* its first byte, among those of its kind */
};

struct units {
    const struct ckpt_map *l;
    const struct plan *plan;
    int rank;
    /* [FLAT_DENSE], of tensors that are not experts, and [FLAT_EXPERT]: how many bytes, and what the ranks
     * with the other cuts of the same tensors hold: tp or etp of them, this one in its place. */
    int64_t bytes[2];
    /* Of its pipeline rank's groups: [ep] bytes of experts; [ep+1] the first of its share of the dense ones. */
    int64_t *expert_bytes, *dense_first;
    struct shards *peers[2];
    struct held *held; /* in the order of the files */
    int held_count;
    int next; /* where the walk stands: in held, and which row */
    int64_t row;
    struct unit now;
    struct contribution *list; /* of the unit that was asked about last */
    int list_count, list_room;
};

/* Time and memory: of the tensors in the map, of those that `rank` and its tp and etp peers hold, of ep, and of
 * nothing else that grows with the number of ranks. */
void units_init(struct units *u, const struct ckpt_map *l, int rank);
void units_release(struct units *u);
/* The next unit of tensors that the rank holds; NULL at the end. Good until the next call. */
const struct unit *units_next(struct units *u);
/* u->list: what the rank gives to the unit, in order of segments and places; where it is the writer, what
 * everyone gives, by rank and then so. -1 (status 2) when that does not fill it: the plan's shards leave a
 * hole; the list is what there is. */
int units_parts(struct units *u, const struct unit *unit);

/* Copies a contribution's elements between its packed form and their places in the unit's bytes. */
void unit_scatter(const struct units *u, const struct unit *unit, const struct contribution *c,
                  const void *packed, char *bytes);
/* Where the contribution lies in the unit when that is one run; -1 when it is in pieces. */
int64_t unit_run(const struct units *u, const struct unit *unit, const struct contribution *c);

#endif
