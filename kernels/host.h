/* SPDX-License-Identifier: MIT */
/* What the backends that compute on the host share: memory, and streams and events that are always done. */
#ifndef KERNELS_HOST_H
#define KERNELS_HOST_H

#include "backend.h"

void host_install(struct backend *be);

const struct backend *ref_backend(void);
const struct backend *cpu_backend(void);
const struct backend *guard_backend(void);

#endif
