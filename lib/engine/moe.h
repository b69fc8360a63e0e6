/* SPDX-License-Identifier: MIT */
/* A mixture of experts: router, dispatch, grouped products, combine. */
#ifndef ENGINE_MOE_H
#define ENGINE_MOE_H

#include "engine/engine.h"

/* Forward: the choices, and rows and counts on their way as far as they get without the host knowing the
 * counts; then the experts, whose results go back; then out = what has come back. What is queued in between is
 * computed meanwhile. A replay knows the counts, ends with moe_replay(), and has no results. */
int moe_route(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int layer);
int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
void moe_combine(struct engine *e, struct acts *a, void *out);
void moe_replay(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
/* The rows of a layer that keeps the rest: sent again, and there again. */
int moe_resend(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
void moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
/* Backward: the gradients on their way; then all the rest, into ws.dh. d_out is the gradient of the output. */
int moe_backward_send(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out);
int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split);
int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);

#endif
