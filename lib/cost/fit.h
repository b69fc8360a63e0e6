/* SPDX-License-Identifier: MIT */
/* What to say of a rank that needs more memory than there is: what takes it, and what would make it fit. */
#ifndef COST_FIT_H
#define COST_FIT_H

#include "cost/arena.h"

/* "activations take 61.0 GB, …: with --recompute selective it would need 70.3 GB". `limit`: bytes that the rank
 * may have. The settings are counted as the plan is (memory_of_rank()), and the one named is the cheapest in
 * time that fits; where none does, the axes are named that take from the largest part. */
void fit_advice(const struct plan *p, int rank, int64_t limit, char text[static 400]);

#endif
