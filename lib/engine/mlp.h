/* SPDX-License-Identifier: MIT */
/* The MLP of a dense layer, or the shared expert. */
#ifndef ENGINE_MLP_H
#define ENGINE_MLP_H

#include "engine/engine.h"

/* out = MLP(a->h2); backward adds to ws.dh; d_out is the gradient of the output. */
int mlp_forward(struct engine *e, struct layer *w, struct acts *a, void *out);
int mlp_backward(struct engine *e, struct layer *w, struct acts *a, const void *d_out, bool split);
int mlp_weights(struct engine *e, struct layer *w, struct acts *a, const void *d_out);
void mlp_refill(struct engine *e, struct layer *w, struct acts *a);

#endif
