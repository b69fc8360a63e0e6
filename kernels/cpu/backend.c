/* SPDX-License-Identifier: MIT */
#include "../backends.h"
#include "../block.h"
#include "../queue.h"
#include "cpu.h"

static struct backend direct;

#define X(op) QUEUED(direct, op)
BACKEND_OPS(X)
#undef X

const struct backend *cpu_direct(void)
{
    direct = *ref_direct();
    matmul_install(&direct);
    norm_install(&direct);
    attention_install(&direct);
    elementwise_install(&direct);
    route_install(&direct);
    loss_install(&direct);
    optim_install(&direct);
    return &direct;
}

const struct backend *cpu_backend(int device)
{
    static struct backend be = {.name = "cpu", .alloc = block_alloc, .free = block_free};
    cpu_direct();
    queue_install(&be);
#define X(op) be.op = queued_##op;
    BACKEND_OPS(X)
#undef X
    return &be;
}
