/* SPDX-License-Identifier: MIT */
/* A step before the first: what its operations choose at their first use is chosen (kernels/rehearsal.c), so
 * that it does not depend on when a step comes to it, and a run which goes on from a checkpoint has all of it;
 * and their code is on the device. To load code may wait for the device, which must not wait for another rank
 * then: nobody could say how long. */
#ifndef ENGINE_REHEARSE_H
#define ENGINE_REHEARSE_H

#include "engine/engine.h"

/* All of a step of this rank, with nothing sent, and nothing done that a step does not overwrite. tokens:
 * room for a step's. -1 with error() when something could not be chosen. */
int engine_rehearse(struct engine *e, const int32_t *tokens);

#endif
