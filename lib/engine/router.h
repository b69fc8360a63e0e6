/* SPDX-License-Identifier: MIT */
/* The router: who goes to which expert, and the auxiliary losses. */
#ifndef ENGINE_ROUTER_H
#define ENGINE_ROUTER_H

#include "engine/engine.h"

/* The choices, sorted: a->topk, weight, position, source, first, and ws.counts. */
int router_forward(struct engine *e, struct layer *w, struct acts *a, int layer);
/* After it: what the microbatch's statistics give, to losses, loads and the gradients to come. */
int router_statistics(struct engine *e, struct layer *w, struct acts *a);
void router_backward_input(struct engine *e, struct layer *w, struct acts *a);

#endif
