/* SPDX-License-Identifier: MIT */
/* What ends a step when gradients are summed (buckets.h): their norm, and the update. */
#ifndef ENGINE_OPTIMIZER_H
#define ENGINE_OPTIMIZER_H

#include "engine/engine.h"

struct hyper {
    double lr, beta1, beta2, eps, weight_decay;
    double clip;  /* the norm that gradients are cut to; 0: any */
    int64_t step; /* from 1 */
};
void gradients_square(struct engine *e); /* adds this rank's share of ‖g‖² to the step's totals */
/* Whether what the optimizer keeps of this rank's slices (all: and their weights) is finite. */
int states_finite(struct engine *e, bool all, bool *finite);
/* After totals_sum(). When the loss or the norm is not finite nothing is changed, and the step's update.skip
 * says so: the host hears of it with the step's figures. */
int optimizer_update(struct engine *e, const struct hyper *h);

#endif
