/* SPDX-License-Identifier: MIT */
/* One step: data, program, gradients, figures, update, record. */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "train/run.h"

/* Collective. The next step. -1 with error(); STATUS_NO when the run has diverged, agreed by all. */
int step_run(struct run *run);

#endif
