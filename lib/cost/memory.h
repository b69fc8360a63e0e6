/* SPDX-License-Identifier: MIT */
/* Bytes of device memory a rank needs to run the plan with moe-train, by counting the very buffers that it will
 * lay out (arena.h). */
#ifndef COST_MEMORY_H
#define COST_MEMORY_H

#include "cost/arena.h"

int memory_of_rank(const struct plan *p, int rank, struct memory *m);
/* Fills p->predict's memory figures from the worst rank. */
int memory_predict(struct plan *p);

#endif
