/* SPDX-License-Identifier: MIT */
/* One step: data, program, gradients, figures, update, record. */
#ifndef TRAIN_STEP_H
#define TRAIN_STEP_H

#include "train/run.h"

/* What each rank contributes to a step's figures before the update. */
struct step_share {
    double square, loss, router_loss[ROUTER_LOSSES], dropped, overflow;
};

void step_clear_totals(struct engine *e);
/* Collective. Sums everyone's share. Each figure is counted on one rank of those that all know it. */
int step_gather_shares(struct run *run, double square, struct step_share *sum);
/* Collective. The next step. -1 with error(); STATUS_NO when the run has diverged, agreed by all. */
int step_run(struct run *run);

#endif
