/* SPDX-License-Identifier: MIT */
/* The norms of whole rows: before attention, before the MLP or experts, and before the head. (Those of queries
 * and keys are of another shape: attention.c.) */
#ifndef ENGINE_NORM_H
#define ENGINE_NORM_H

#include "engine/engine.h"

/* y = RMSNorm(x)·w for x and y [n,H] of the engine's type; y may be x. */
void norm(struct engine *e, const void *x, const struct weight *w, void *y);
/* dx = the gradient of x from that of y, and w's is added to w->g. dx may be dy. */
void norm_backward(struct engine *e, const void *x, const struct weight *w, const void *dy, void *dx);
/* The same where x also goes past the norm: dx += it. */
void norm_backward_add(struct engine *e, const void *x, const struct weight *w, const void *dy, void *dx);

#endif
