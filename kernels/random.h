/* SPDX-License-Identifier: MIT */
/* Counter-based normal numbers, shared by the backends so that they agree to the bit. */
#ifndef KERNELS_RANDOM_H
#define KERNELS_RANDOM_H

#include "ops.h"

/* Philox-4x32-10: four random words for one counter. */
void philox(uint64_t seed, uint64_t counter, uint32_t word[static 4]);
/* Row r of the operation. */
void fill_row(const struct fill_normal *p, int64_t r);

#endif
