/* SPDX-License-Identifier: MIT */
/* Writing a step directory (its shape: state.h). */
#ifndef CKPT_SAVE_H
#define CKPT_SAVE_H

#include <stdbool.h>

#include "ckpt/line.h"
#include "ckpt/mark.h"
#include "ckpt/state.h"
#include "comm/comm.h"

/* What a step is saved as. The same on all ranks, but for the mark. */
struct save_as {
    const char *root;
    int64_t step;
    const char *state_json;  /* the text of state.json; NULL: {} */
    const char *algorithms;  /* rank 0: the text of algorithms.txt; NULL: none */
    const struct line *line; /* the run that saves */
    const struct mark *mark; /* rank 0: checked before the step gets its name; NULL: the root is not marked */
};

/* Collective over comm_world(c). Saves the step; what has its name already and is not of the line, or not
 * complete, is set aside. On failure (status 3, STATUS_USAGE for a step of this line that is there) nothing
 * gets the final name, nothing older is touched, and what there was of it is removed: comm_agree()'s -1 on
 * every rank with *agreed (or NULL), as there. *bytes (or NULL): what was written by all ranks. */
int checkpoint_save(const struct rank_state *s, struct comm *c, const struct save_as *as, int64_t *bytes,
                    bool *agreed);
/* The gradients (flat f32 buffers, whole and summed; FLAT_BUFFER ignored) written as one HF-named directory for
 * tests and tools: dense.safetensors and expert files, f32. A directory that is there is refused. */
int checkpoint_save_gradients(const struct rank_state *s, struct comm *c, float *const gradients[2],
                              const char *dir, bool *agreed);

#endif
