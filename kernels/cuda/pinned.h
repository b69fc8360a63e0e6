/* SPDX-License-Identifier: MIT */
/* Page-locked memory of the host, in blocks that are kept and lent again: to allocate one may stop the
 * device. */
#ifndef KERNELS_CUDA_PINNED_H
#define KERNELS_CUDA_PINNED_H

#include <cuda_runtime_api.h>
#include <stddef.h>

struct pinned;

/* A block of at least so many bytes, whose contents are undefined. NULL if there is none. */
struct pinned *pinned_take(size_t bytes);
void *pinned_bytes(const struct pinned *m);
/* It is lent again when the copies that s has now are done. NULL is none. */
void pinned_return(struct pinned *m, cudaStream_t s);

#endif
