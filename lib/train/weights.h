/* SPDX-License-Identifier: MIT */
/* What a run begins with: weights of a model, or the whole state of a checkpoint, into its ranks. Collective
 * over the job; -1 on all ranks when any has failed. */
#ifndef TRAIN_WEIGHTS_H
#define TRAIN_WEIGHTS_H

#include "ckpt/manifest.h"
#include "ckpt/state.h"
#include "train/run.h"

/* This rank's state, as what is saved and loaded. */
struct rank_state run_state(struct run *run);
/* checkpoint_load(), after its config.json was found to be of the plan's model: 1 for damage, which *h
 * tells. */
int weights_resume(struct run *run, const char *dir, const struct manifest *m, struct heard *h);
/* First weights, which must be the same files on all ranks. */
int weights_import(struct run *run, const char *dir);

#endif
