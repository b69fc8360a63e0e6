/* SPDX-License-Identifier: MIT */
/* What ends a step: gradients summed, their norm, the update, weights gathered. */
#ifndef ENGINE_OPTIMIZER_H
#define ENGINE_OPTIMIZER_H

#include "engine/engine.h"

struct hyper {
    double lr, beta1, beta2, eps, weight_decay;
};
/* Gradients summed over every rank that has a part of them. whole: leave all of them on every replica, not just
 * this one's slice. */
int gradients_reduce(struct engine *e, bool whole);
int gradients_square(struct engine *e, double *sum); /* this rank's share of ‖g‖² */
/* Whether what the optimizer keeps of this rank's slices (all: and their weights) is finite. */
int states_finite(struct engine *e, bool all, bool *finite);
int optimizer_update(struct engine *e, const struct hyper *h, int64_t step, double grad_scale);
void gradients_zero(struct engine *e);

#endif
