/* SPDX-License-Identifier: MIT */
/* A step before the first: what its operations choose at their first use is chosen (kernels/rehearsal.c), so
 * that it does not depend on when a step comes to it, and a run which goes on from a checkpoint has all of
 * it. */
#ifndef ENGINE_REHEARSE_H
#define ENGINE_REHEARSE_H

#include "engine/engine.h"

/* The whole program of this rank, with nothing done and nothing sent. tokens: room for a step's. -1 with
 * error() when something could not be chosen. */
int engine_rehearse(struct engine *e, const int32_t *tokens);

#endif
