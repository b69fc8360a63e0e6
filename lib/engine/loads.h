/* SPDX-License-Identifier: MIT */
/* The step's choices of every expert in the local MoE layers: arena.step->loads. */
#ifndef ENGINE_LOADS_H
#define ENGINE_LOADS_H

#include "engine/engine.h"

void loads_count(struct engine *e, int moe_index, const float *count); /* adds a microbatch's [E] */
int loads_sum(struct engine *e); /* over dp: then they are the whole batch's */
/* Aux-loss-free balancing (DeepSeek-V3, arXiv 2412.19437), after loads_sum() and optimizer_update(): bias +=
 * rate · sign(mean load − load), unless the step has diverged. */
void loads_update_bias(struct engine *e, double rate);
/* Of all stages, to rank 0's [MoE layers of the model,E], once they have come down (totals.h). */
int loads_collect(struct engine *e, float *loads);

#endif
