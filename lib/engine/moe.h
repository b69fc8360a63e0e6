/* SPDX-License-Identifier: MIT */
/* A mixture of experts: router, dispatch, grouped products, combine. */
#ifndef ENGINE_MOE_H
#define ENGINE_MOE_H

#include "engine/engine.h"

/* Forward in two halves: the choices, and rows and counts on their way as far as they get without the host
 * knowing the counts; then the experts. What is queued between the two is under way while the host waits. */
int moe_route(struct engine *e, struct layer *w, struct acts *a, int layer);
int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, void *out);
int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split);
int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
int moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);

#endif
