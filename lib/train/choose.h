/* SPDX-License-Identifier: MIT */
/* Which checkpoint --resume means, found by loading it. Rank 0 looks and reads what is not tensors; all ranks
 * load, each byte checked as it passes. One that turns out damaged is not believed, and the next is loaded
 * over it.
 *
 *   --resume ROOT   the newest step that is whole; those passed over are named. None whole: status 2. No step
 *                   at all, set aside or not, is a fresh start
 *   --resume DIR    that step, whole (status 2) */
#ifndef TRAIN_CHOOSE_H
#define TRAIN_CHOOSE_H

#include "train/run.h"

struct chosen {
    char *dir;     /* NULL: a fresh start */
    char *state;   /* the text of its state.json, as rank 0 read it */
    int64_t bytes; /* of its files */
};

/* Collective. -1 with error(): also when a rank does not see what rank 0 sees. What was chosen is
 * loaded. */
int choose_checkpoint(struct run *run, struct chosen *c);
void chosen_release(struct chosen *c);

#endif
