/* SPDX-License-Identifier: MIT */
/* A backend for going through the motions: nothing that is queued is done, but what an operation would have to
 * choose at its first use is chosen. So a whole step can be rehearsed before the first, with the very operands
 * that it will have. */
#ifndef KERNELS_REHEARSAL_H
#define KERNELS_REHEARSAL_H

#include "backend.h"

/* Makes *rehearsal the table for `be`, which has prepare_matmul() and must outlive it; one at a time. Streams,
 * events and memory are be's. Operations, copies and records of events do nothing; work of the host, or of a
 * library, is released; what is downloaded is zeros. */
void rehearsal_make(struct backend *rehearsal, const struct backend *be);

#endif
