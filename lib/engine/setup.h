/* SPDX-License-Identifier: MIT */
/* What a rank has: memory, groups, and the addresses of its parameters. */
#ifndef ENGINE_SETUP_H
#define ENGINE_SETUP_H

#include "engine/engine.h"

/* Allocates the arena, makes the groups, uploads tables. plan, be and comm stay the caller's and must outlive
 * the engine. */
int engine_init(struct engine *e, const struct plan *plan, const struct backend *be, struct stream *s,
                struct comm *comm);
void engine_release(struct engine *e);
/* Initial weights: each tensor from its own stream of numbers, so that every layout starts from the same model.
 */
int engine_init_weights(struct engine *e, uint64_t seed);

#endif
