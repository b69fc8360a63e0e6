/* SPDX-License-Identifier: MIT */
#ifndef COST_ROWS_H
#define COST_ROWS_H

#include "plan/plan.h"

/* Rows reserved for the local experts of one layer and microbatch.
 *
 * On average n·K·etp rows arrive: each of the ep·etp sources has n·K, and they go to ep holders. With ep = 1
 * that is all there are. All reserve what one with most experts needs: so a pass is as many rows on each. With
 * a capacity an expert keeps at most `limit` of a microbatch's T tokens, and all that can come is reserved.
 * Else λ times the average is, and never more than can come: a token chooses a local expert at most once.
 *
 *   n = T = 8, K = 2, E = 8, ep = 4, etp = 1 (4 sources, 2 local experts): 16 on average, at most 8·4·2 = 64
 *   λ = 1.5, dropless      24 rows; more of them take several passes (engine/dispatch.c)
 *   capacity factor 2      limit 4 of each microbatch: 4·2·4 = 32 rows, whatever λ, and never a second pass
 *   ep = 1                 16: all choices are local, so no λ
 *
 * In floating point: with a skew of a million the integers would overflow. */
double reserved_rows(const struct plan *p, int64_t n);

#endif
