/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_REF_H
#define KERNELS_REF_H

#include "../backend.h"

#define X(name) void ref_##name(struct stream *, const struct name *);
BACKEND_OPS(X)
#undef X

#endif
