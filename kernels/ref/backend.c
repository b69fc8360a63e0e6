/* SPDX-License-Identifier: MIT */
#include "../backends.h"
#include "../immediate.h"
#include "ref.h"

const struct backend *ref_backend(int device)
{
    static struct backend be = {.name = "ref"};
    immediate_install(&be);
#define X(op) be.op = ref_##op;
    BACKEND_OPS(X)
#undef X
    return &be;
}
