/* SPDX-License-Identifier: MIT */
/* Device memory of backends that compute on the host. */
#ifndef KERNELS_BLOCK_H
#define KERNELS_BLOCK_H

#include <stddef.h>

/* alloc() and free() of backend.h. */
void *block_alloc(size_t bytes);
void block_free(void *p, size_t bytes);

#endif
