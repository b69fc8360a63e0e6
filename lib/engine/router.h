/* SPDX-License-Identifier: MIT */
/* The router: who goes to which expert, and the auxiliary losses. */
#ifndef ENGINE_ROUTER_H
#define ENGINE_ROUTER_H

#include "engine/engine.h"

int router_forward(struct engine *e, struct layer *w, struct acts *a, int layer);
void router_backward_input(struct engine *e, struct layer *w, struct acts *a);

#endif
