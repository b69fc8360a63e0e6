/* SPDX-License-Identifier: MIT */
/* Writing a step directory (its shape: state.h). */
#ifndef CKPT_SAVE_H
#define CKPT_SAVE_H

#include <stdbool.h>

#include "ckpt/line.h"
#include "ckpt/mark.h"
#include "ckpt/state.h"
#include "comm/comm.h"

/* What a step is saved as. The same on all ranks, but for the mark and the room. */
struct save_as {
    const char *root;
    int64_t step;
    const char *state_json;  /* the text of state.json; NULL: {} */
    const char *algorithms;  /* rank 0: the text of algorithms.txt; NULL: none */
    const struct line *line; /* the run that saves */
    const struct mark *mark; /* rank 0: checked before the step gets its name; NULL: the root is not marked */
    int64_t room;            /* bytes of host memory that a snapshot may take on this rank */
};

/* What a save came to; the same on all ranks but for the times, which are the rank's own. */
struct saved {
    int64_t bytes;     /* written by all ranks */
    double snapshot_s; /* saver_begin(): until the state was out of the device */
    double write_s;    /* from there until all ranks' files were on disk, or until somebody asked, if later */
    double wait_s;     /* the part of that which saver_end() waited */
    double seal_s;     /* then until the step had its name */
};

/* A save in two parts. saver_begin() takes the state out of the device, to the buffers of threads that write:
 * after it training may go on. saver_end() waits for the threads of all ranks and gives the step its name. One
 * save at a time. A snapshot of this rank's share is kept where `room` has it; else a few buffers make do,
 * saver_begin() takes as long as the disk does, and it says so once. */
struct saver;
struct saver *saver_new(struct comm *c);
void saver_free(struct saver *v);
/* Not collective, and may be left out: begins to lay hands on the memory of a snapshot, if this rank's share
 * fits into `room` bytes, beside what else the rank does until its first save. */
void saver_prepare(struct saver *v, const struct rank_state *s, int64_t room);

/* Collective over comm_world(c). What has its name already and is not of the line, or not complete, is set
 * aside. On failure of either part (status 3, STATUS_USAGE for a step of this line that is there) nothing gets
 * the final name, nothing older is touched, and what there was of it is removed: comm_agree()'s -1 on every
 * rank with *agreed (or NULL), as there; the save is over. `s` and `as` are copied, with the state's text;
 * line, mark and root must stay until saver_end(). */
int saver_begin(struct saver *v, const struct rank_state *s, const struct save_as *as, bool *agreed);
/* Whether this rank's files are written, so that saver_end() will not wait for them. Never waits. */
bool saver_written(struct saver *v);
int saver_end(struct saver *v, struct saved *out, bool *agreed);
/* Not collective: lets a save go that cannot be ended, as communication has failed. */
void saver_abandon(struct saver *v);

/* Both parts in one. *bytes (or NULL): what was written by all ranks. */
int checkpoint_save(const struct rank_state *s, struct comm *c, const struct save_as *as, int64_t *bytes,
                    bool *agreed);
/* The gradients (flat f32 buffers, whole and summed; FLAT_BUFFER ignored) written as one HF-named directory for
 * tests and tools: dense.safetensors and expert files, f32. A directory that is there is refused. */
int checkpoint_save_gradients(const struct rank_state *s, struct comm *c, float *const gradients[2],
                              const char *dir, bool *agreed);

#endif
