/* SPDX-License-Identifier: MIT */
/* A mixture of experts: router, dispatch, grouped products, combine. */
#ifndef ENGINE_MOE_H
#define ENGINE_MOE_H

#include "engine/engine.h"

int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int layer, void *out);
int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split);
int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
int moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);

#endif
