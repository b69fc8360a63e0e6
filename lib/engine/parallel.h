/* SPDX-License-Identifier: MIT */
/* Tensor parallelism with sequence parallelism: from tokens cut over tp to whole ones and back. */
#ifndef ENGINE_PARALLEL_H
#define ENGINE_PARALLEL_H

#include "engine/engine.h"

/* The tp group's [T,·] matrix from this rank's [n,·] part; x itself when tp is 1. `width` elements a row. NULL
 * on error. */
const void *tp_gather(struct engine *e, const void *x, void *buffer, int64_t width);
/* Where a row-parallel product goes before tp_reduce: ws.partial, or `out` itself when tp is 1. */
void *tp_partial(struct engine *e, void *out);
/* out [n,H] = this rank's part of the sum of the tp group's ws.partial. */
int tp_reduce(struct engine *e, void *out);

#endif
