/* SPDX-License-Identifier: MIT */
/* Inside of a save (save*.c, the only files here that need lib/comm: moe-ckpt, which saves nothing, is linked
 * without them). */
#ifndef CKPT_SAVE_UNITS_H
#define CKPT_SAVE_UNITS_H

#include "base/error.h"
#include "ckpt/manifest.h"
#include "ckpt/map.h"
#include "ckpt/save.h"
#include "ckpt/state.h"
#include "ckpt/units.h"
#include "comm/comm.h"

/* The checksum of bytes that one writer wrote: a part of one entry. */
struct range {
    int entry;
    uint32_t crc32;
    int64_t begin, bytes; /* in the entry */
};

enum { SENDS = 8, GATHERS = 3 };

/* A message on its way. */
struct sending {
    struct comm_request *request;
    char *buffer;
    int64_t room;
};

/* What one rank sends for a unit: contributions [first, first+count) of the list, in one message. */
struct sender {
    int rank, first, count;
    int64_t bytes;
    struct comm_request *request;
};

/* A unit being assembled at its writer. */
struct gathering {
    bool busy;
    struct unit unit;          /* segments are its own */
    struct contribution *list; /* those of other ranks, a copy */
    int count, list_room;
    struct sender *senders;
    int sender_count, sender_room;
    char *bytes, *incoming;
    int64_t room, incoming_room;
};

struct saver {
    const struct rank_state *s;
    const struct save_as *as; /* NULL: gradients are saved */
    float *const *gradients;  /* NULL: the whole state is saved */
    bool *agreed;             /* comm_agree()'s, or NULL */
    struct comm *comm;
    struct group *world; /* all of it */
    int rank, size;
    struct ckpt_map l;
    struct units u;
    char *dir;   /* the temporary directory */
    bool made;   /* by this rank: rank 0 */
    bool failed; /* here; the others learn of it in agree() */
    enum status status;
    char text[640];
    int fd, fd_file;
    int64_t settling, settling_bytes; /* what was written to fd last, and is on its way to the disk */
    bool *touched;                    /* files to be synced at the end */
    struct range *ranges;
    int range_count, range_room;
    struct sending sends[SENDS];
    int next_send;
    struct gathering gathers[GATHERS];
    int next_gather;
    char *scratch;
    int64_t scratch_room;
};

/* Keeps the recorded error as this rank's, unless it has one. */
void save_failed(struct saver *v);
/* All units through all ranks, and this rank's files synced. -1: communication failed; local failures wait in
 * v. */
int save_units(struct saver *v);
/* Collective, up a tree: everyone's ranges at rank 0, in the order of their places, those that adjoin made
 * one. A part written twice stays to be seen. */
int save_gather_ranges(struct saver *v);

#endif
