/* SPDX-License-Identifier: MIT */
/* The MLP of a dense layer, or the shared expert. */
#ifndef ENGINE_MLP_H
#define ENGINE_MLP_H

#include "engine/engine.h"

/* out = MLP(a->h2), in two halves: what comes in (up to a->mlp_act) and what goes out. */
int mlp_up(struct engine *e, struct layer *w, struct acts *a);
int mlp_down(struct engine *e, struct layer *w, struct acts *a, void *out);
/* Backward in two halves: from the gradient of the output to that of the inner activations, which touches none
 * of ws.branch and ws.dh, and with all gradients of weights unless `split`; then ws.dh += that of the input. */
int mlp_backward_down(struct engine *e, struct layer *w, struct acts *a, const void *d_out, bool split);
int mlp_backward_up(struct engine *e, struct layer *w, struct acts *a);
int mlp_weights(struct engine *e, struct layer *w, struct acts *a, const void *d_out);
void mlp_refill(struct engine *e, struct layer *w, struct acts *a);

#endif
