/* SPDX-License-Identifier: MIT */
/* What the backends share that finish each operation before it returns: the host's memory, streams and events
 * that are always done, and copies. */
#ifndef KERNELS_IMMEDIATE_H
#define KERNELS_IMMEDIATE_H

#include "backend.h"

/* Fills in all but the name and the operations of ops.h. */
void immediate_install(struct backend *be);

#endif
