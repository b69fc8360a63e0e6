/* SPDX-License-Identifier: MIT */
/* One transformer layer; `i` is its index in the stash. */
#ifndef ENGINE_LAYER_H
#define ENGINE_LAYER_H

#include "engine/engine.h"

int layer_forward(struct engine *e, struct stash *stash, int i);
/* d [n,H]: gradient of the layer's output, turned into that of its input. split: weight gradients are left to
 * layer_weights(). */
int layer_backward(struct engine *e, struct stash *stash, int i, void *d, bool split);
int layer_weights(struct engine *e, struct stash *stash, int i);

#endif
