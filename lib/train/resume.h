/* SPDX-License-Identifier: MIT */
/* Where a run starts from: a checkpoint, or first weights. */
#ifndef TRAIN_RESUME_H
#define TRAIN_RESUME_H

#include "train/run.h"

/* The text of a checkpoint's state.json; caller frees. */
char *run_state_text(struct run *run);
/* Collective. First weights, or those of --resume with the recipe, which rank 0 chooses (choose.h); then the
 * data is opened at its place. -1 with error(). */
int run_load_state(struct run *run);

#endif
