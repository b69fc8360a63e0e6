/* SPDX-License-Identifier: MIT */
/* totals.loads: the step's choices of every expert in the local MoE layers. */
#ifndef ENGINE_LOADS_H
#define ENGINE_LOADS_H

#include "engine/engine.h"

int loads_sum(struct engine *e);                   /* over dp: then they are the whole batch's */
int loads_collect(struct engine *e, float *loads); /* of all stages, to rank 0's [MoE layers of the model,E] */
/* Aux-loss-free balancing (DeepSeek-V3, arXiv 2412.19437): bias += rate · sign(mean load − load), after
 * loads_sum(). */
int loads_update_bias(struct engine *e, double rate);

#endif
