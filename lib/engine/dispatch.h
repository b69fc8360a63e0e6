/* SPDX-License-Identifier: MIT */
/* Rows to the ranks that hold their experts, and results back. `w` is the layer, which knows its slots. In the
 * order of calls: */
#ifndef ENGINE_DISPATCH_H
#define ENGINE_DISPATCH_H

#include "engine/engine.h"

void dispatch_init(struct engine *e, struct dispatch *d);
void dispatch_release(struct dispatch *d);
/* After the choices are sorted into a->position, a->source and a->first and counted in ws.counts: all learn the
 * counts, on the device. */
int dispatch_counts(struct engine *e, const struct layer *w, struct acts *a);
/* Rows of x [n,H] in the order of sending, with a->weight unless `weight` is NULL. Where all experts are here
 * they go to `rows` [C,H] and `weight` [C] at once. */
void dispatch_pack(struct engine *e, struct acts *a, const void *x, void *rows, float *weight);
/* Who sends how many rows where, and in how many passes. With ep > 1 the host waits here, and nowhere else,
 * until the counts are there; what was queued before goes on meanwhile. */
int dispatch_route(struct engine *e, const struct layer *w, struct dispatch *d);
/* The order of this pass, for what follows until the next such call: returns row [El+1] for the grouped
 * products, device memory. */
const int32_t *dispatch_order(struct engine *e, const struct layer *w, struct acts *a, int pass);
/* What is packed goes to those who need it in this pass; `weighted`: it has weights. Then rows and weight of
 * this pass ← what all ranks of the ep × etp group have sent. What is queued between the two is computed while
 * the rows travel, where the engine overlaps. */
int dispatch_send(struct engine *e, const struct layer *w, struct dispatch *d, int pass, bool weighted);
void dispatch_rows(struct engine *e, const struct layer *w, void *rows, float *weight);
/* Results of this pass start back: sums over etp, then to the ranks they came from, into ws.back. weight NULL:
 * they have none. `rows` may be overwritten by what is queued next; they travel beside it as above, up to
 * combine_tokens(). */
int combine_rows(struct engine *e, const struct layer *w, struct dispatch *d, int pass, void *rows,
                 float *weight);
/* y [n,H] = sum of each token's results after the last pass; `rows` and `weight` are the results themselves
 * when nothing was sent. d_weight (or NULL) [n,K] likewise, 0 for dropped choices. */
void combine_tokens(struct engine *e, struct acts *a, const void *rows, const float *weight, void *y,
                    float *d_weight);

#endif
