/* SPDX-License-Identifier: MIT */
/* Inside of a save (save*.c, the only files here that need lib/comm: moe-ckpt, which saves nothing, is linked
 * without them). */
#ifndef CKPT_SAVE_UNITS_H
#define CKPT_SAVE_UNITS_H

#include "base/error.h"
#include "ckpt/manifest.h"
#include "ckpt/map.h"
#include "ckpt/save.h"
#include "ckpt/save_write.h"
#include "ckpt/state.h"
#include "ckpt/units.h"
#include "comm/comm.h"

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

/* A unit being assembled at its writer, in a slot of the ring. */
struct gathering {
    bool busy;
    struct slot *slot;
    struct contribution *list; /* those of other ranks, a copy */
    int count, list_room;
    struct sender *senders;
    int sender_count, sender_room;
    char *incoming;
    int64_t incoming_room;
};

struct saver {
    /* From one save to the next. */
    struct comm *comm;
    struct group *world; /* all of it */
    int rank, size;
    struct ring ring;
    bool said; /* that training waits for the disk */
    /* The save under way. */
    bool busy;
    struct rank_state state;
    const struct rank_state *s; /* = &state */
    struct save_as as;          /* root NULL: gradients are saved */
    char *state_json;           /* as.state_json's memory */
    char *algorithms;           /* as.algorithms' memory */
    float *const *gradients;    /* NULL: the whole state is saved */
    bool *agreed;               /* comm_agree()'s, or NULL */
    double begun, walked;       /* now_s(): at the start, and when the state was out of the device */
    struct ckpt_map l;
    struct units u;
    char *dir;   /* the temporary directory */
    char *final; /* what its name will be */
    bool made;   /* by this rank: rank 0 */
    bool failed; /* here; the others learn of it in agree() */
    enum status status;
    char text[640];
    bool *touched; /* files that rank 0 wrote a header to */
    struct writer writer;
    struct sending sends[SENDS];
    int next_send;
    struct gathering gathers[GATHERS];
    int next_gather;
    char *scratch;
    int64_t scratch_room;
};

/* Keeps the recorded error as this rank's, unless it has one. */
void save_failed(struct saver *v);
/* How many bytes, in how many units, a rank writes: what a snapshot takes there. *sizes (or NULL): of each
 * unit; caller frees. */
int64_t save_share(const struct ckpt_map *l, int rank, int *units, int64_t **sizes);
/* All units through all ranks to their writers, which may still have them to write. -1: communication failed;
 * local failures wait in v and its writer. */
int save_units(struct saver *v);
/* Collective, up a tree: everyone's ranges at rank 0, in the order of their places, those that adjoin in one of
 * the manifest's made one. A part written twice stays to be seen. */
int save_gather_ranges(struct saver *v);

#endif
