/* SPDX-License-Identifier: MIT */
/* Runs a stage's program. */
#ifndef ENGINE_PIPELINE_H
#define ENGINE_PIPELINE_H

#include "engine/engine.h"
#include "plan/schedule.h"

/* Runs a program over the step's microbatches. tokens: this dp rank's [microbatches][micro][S+1] (first and
 * last stage; else ignored). Gradients and totals add up. */
int pipeline_run(struct engine *e, const struct program *g, const int32_t *tokens);

#endif
