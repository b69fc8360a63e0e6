/* SPDX-License-Identifier: MIT */
/* Device memory of the backend `late`: nobody may touch it but between late_open() and late_close(). It holds
 * NaNs as whatever type it is read, until something is written, and pages that never open stand around it. */
#ifndef KERNELS_LATE_MEMORY_H
#define KERNELS_LATE_MEMORY_H

#include <stddef.h>

/* alloc() and free() of backend.h. */
void *late_alloc(size_t bytes);
void late_free(void *p);

void late_open(void);
void late_close(void);

#endif
