/* SPDX-License-Identifier: MIT */
/* Plain loops: what every other backend is compared with. Gradients are derived beside them. */
#ifndef KERNELS_REF_H
#define KERNELS_REF_H

#include "../backend.h"

#define X(name) void ref_##name(struct stream *, const struct name *);
BACKEND_OPS(X)
#undef X

#endif
