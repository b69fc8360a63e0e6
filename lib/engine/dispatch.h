/* SPDX-License-Identifier: MIT */
/* Rows to the ranks that hold their experts, and results back. */
#ifndef ENGINE_DISPATCH_H
#define ENGINE_DISPATCH_H

#include "engine/engine.h"

void dispatch_init(struct engine *e, struct dispatch *d);
void dispatch_release(struct dispatch *d);
/* After the choices are sorted into a->position and a->source and counted in ws.counts: who sends how many rows
 * where. */
int dispatch_route(struct engine *e, struct dispatch *d);
/* rows of this pass ← x [n,H] of all ranks of the ep × etp group; weight (or NULL) likewise from a->weight to
 * `weight` [C]. */
int dispatch_rows(struct engine *e, struct acts *a, struct dispatch *d, int pass, const void *x, void *rows,
                  float *weight);
/* Results of this pass start back: sums over etp, then to the ranks they came from, into ws.back. rows and
 * weight are destroyed. */
int combine_rows(struct engine *e, struct dispatch *d, int pass, void *rows, float *weight);
/* y [n,H] = sum of each token's results after the last pass; `rows` are the results themselves when nothing was
 * sent. d_weight (or NULL) [n,K] likewise. */
void combine_tokens(struct engine *e, struct acts *a, struct dispatch *d, const void *rows, const float *weight,
                    void *y, float *d_weight);
/* Rows of this pass by local expert: row[El+1] for the grouped products. */
void dispatch_segments(const struct engine *e, const struct dispatch *d, int pass, int64_t *row);

#endif
