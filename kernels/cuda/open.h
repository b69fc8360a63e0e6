/* SPDX-License-Identifier: MIT */
/* Which device this process computes with, and what is said when there is none. */
#ifndef KERNELS_CUDA_OPEN_H
#define KERNELS_CUDA_OPEN_H

#include "cuda.h"

/* Makes the machine's device number `device`, modulo their number, the current one, and says which that is. -1
 * with error() set: no driver, one too old, no device, one too old, one in use. */
int device_take(int device, struct backend_device *taken);

#endif
