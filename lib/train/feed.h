/* SPDX-License-Identifier: MIT */
/* What a rank reads: the data, and which samples of a step are its own. */
#ifndef TRAIN_FEED_H
#define TRAIN_FEED_H

#include "train/run.h"

/* Collective. The seed and the order are the recipe's, so a checkpoint's recipe comes before. All ranks must
 * see the same data. -1 with error(). */
int feed_open(struct run *run);
/* Fills run->want and makes room for run->tokens. */
void feed_mark(struct run *run);

#endif
