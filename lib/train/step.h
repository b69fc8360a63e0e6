/* SPDX-License-Identifier: MIT */
/* One step: data, program, gradients, figures, update, record. */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "train/figures.h"
#include "train/run.h"

void step_clear_totals(struct engine *e);
/* Collective. The sum of everyone's share. */
int step_gather_shares(struct run *run, double square, struct step_share *sum);
/* Collective. The next step. -1 with error(); STATUS_NO when the run has diverged, agreed by all. */
int step_run(struct run *run);

#endif
