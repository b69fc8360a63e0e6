/* SPDX-License-Identifier: MIT */
/* Matrix products as a layer writes them, of the engine's type. */
#ifndef ENGINE_LINEAR_H
#define ENGINE_LINEAR_H

#include "engine/engine.h"

/* Gradients are sums over a step's microbatches, which nobody clears: the first product of a step overwrites
 * them (engine's `fresh`). What can only add to a gradient has it cleared before, by this. */
void gradient_begin(struct engine *e, float *g, int64_t count);

/* Y = X·Wᵀ, dX = dY·W and dW += dYᵀ·X for X [rows,k], Y [rows,n] and W [n,k], all dense, of the engine's type.
 * dW is f32; linear_f32 has Y in f32. */
void linear(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, void *y);
void linear_f32(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, float *y);
void linear_input(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *w,
                  void *dx);
void linear_weight(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *x,
                   float *dw);
/* Backward of a narrow linear_f32 (router, shared expert's gate): w.g += dyᵀ·x and dx += dy·w for dy [n,width]
 * f32, x and dx [n,H] of the engine's type. */
void linear_f32_backward(struct engine *e, int64_t width, const float *dy, const struct weight *w,
                         const void *x, void *dx);
void add_into(struct engine *e, int64_t count, void *y, const void *x); /* y += x */

#endif
