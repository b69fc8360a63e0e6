/* SPDX-License-Identifier: MIT */
/* Normal random numbers by counter, shared by the backends so that they agree to the bit. */
#ifndef KERNELS_RANDOM_H
#define KERNELS_RANDOM_H

#include "ops.h"

/* Row r of the operation: element c is number first + r·stride + c of the seed. */
void fill_row(const struct fill_normal *p, int64_t r);

#endif
