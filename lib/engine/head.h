/* SPDX-License-Identifier: MIT */
/* The ends of the model: embedding; final norm, head and loss. */
#ifndef ENGINE_HEAD_H
#define ENGINE_HEAD_H

#include "engine/engine.h"

int embed_forward(struct engine *e, struct stash *stash);
int embed_backward(struct engine *e, struct stash *stash, const void *d);
/* Final norm, head and loss of x [n,H]; unless evaluating, x becomes its gradient. */
int head_step(struct engine *e, struct stash *stash, void *x);

#endif
