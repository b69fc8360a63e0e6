/* SPDX-License-Identifier: MIT */
/* The backends there are, a row each: NAME, and whether `--backend auto` may choose it, for a plan whose
 * machine's device has its name (the others are for tests). All builds have all rows; one that a build or a
 * machine cannot offer fails to open. The folder kernels/NAME (or file) defines
 * NAME_backend(), which returns the table of functions, for one of the machine's devices where it has any. */
#ifndef KERNELS_BACKENDS_H
#define KERNELS_BACKENDS_H

#include "backend.h"

#define BACKENDS(X) X(cpu, true) X(cuda, true) X(ref, false) X(late, false)

#define X(name, automatic) const struct backend *name##_backend(int device);
BACKENDS(X)
#undef X

/* The operations alone, done when they return; they ignore their stream. */
const struct backend *ref_direct(void);
const struct backend *cpu_direct(void);

#endif
