/* SPDX-License-Identifier: MIT */
/* How a run starts. */
#ifndef TRAIN_START_H
#define TRAIN_START_H

#include "train/run.h"

/* Collective, once the ranks know each other. Plan, backend, placement, engine, weights, data, log: every step
 * on all ranks, and all agree before the next. -1 with error(). */
int run_start(struct run *run);

#endif
