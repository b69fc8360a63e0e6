/* SPDX-License-Identifier: MIT */
/* Attention, from the layer's input to x2. */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "engine/engine.h"

int attention_forward(struct engine *e, struct layer *w, struct acts *a, const void *x);
int attention_backward(struct engine *e, struct layer *w, struct acts *a, const void *x, void *d, bool split);
int attention_weights(struct engine *e, struct layer *w, struct acts *a);

#endif
