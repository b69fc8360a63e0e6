/* SPDX-License-Identifier: MIT */
/* The backends there are, a row each: NAME, what `moe-train -h` says of it (NULL: nothing), and whether
 * `--backend auto` may choose it, for a plan whose machine's device has its name. The folder kernels/NAME (or
 * file) defines NAME_backend(), which returns the table of functions, for one of the machine's devices where it
 * has any. */
#ifndef KERNELS_BACKENDS_H
#define KERNELS_BACKENDS_H

#include "backend.h"

/* clang-format off */
#define BACKENDS(X) \
    X(cpu, NULL, true) \
    X(ref, "slow, exact loops", false) \
    X(guard, "tests", false)
/* clang-format on */

#define X(name, help, automatic) const struct backend *name##_backend(int device);
BACKENDS(X)
#undef X

#endif
