/* SPDX-License-Identifier: MIT */
#include "../host.h"
#include "ref.h"

const struct backend *ref_backend(void)
{
    static struct backend be = {.name = "ref"};
    host_install(&be);
#define X(op) be.op = ref_##op;
    BACKEND_OPS(X)
#undef X
    return &be;
}
