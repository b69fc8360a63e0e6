/* SPDX-License-Identifier: MIT */
/* The loop over steps. */
#ifndef TRAIN_LOOP_H
#define TRAIN_LOOP_H

#include "train/run.h"

/* Collective. Steps up to --steps, with evaluations and checkpoints between them, or until a stop is asked for:
 * then run->status is STATUS_REQUEUE. -1 with error(). */
int run_steps(struct run *run);

/* Signals: asks the run to stop after this step, checkpoint and return REQUEUE. Async-signal-safe. */
void train_request_stop(void);

#endif
