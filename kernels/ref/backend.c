/* SPDX-License-Identifier: MIT */
#include "../backends.h"
#include "../block.h"
#include "../queue.h"
#include "ref.h"

static const struct backend direct = {
#define X(op) .op = ref_##op,
    BACKEND_OPS(X)
#undef X
};

#define X(op) QUEUED(direct, op)
BACKEND_OPS(X)
#undef X

const struct backend *ref_direct(void)
{
    return &direct;
}

const struct backend *ref_backend(int device)
{
    static struct backend be = {.name = "ref", .alloc = block_alloc, .free = block_free};
    queue_install(&be);
#define X(op) be.op = queued_##op;
    BACKEND_OPS(X)
#undef X
    return &be;
}
