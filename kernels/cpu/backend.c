/* SPDX-License-Identifier: MIT */
#include "../backends.h"
#include "cpu.h"

const struct backend *cpu_backend(int device)
{
    static struct backend be;
    be = *ref_backend(device);
    be.name = "cpu";
    matmul_install(&be);
    norm_install(&be);
    attention_install(&be);
    elementwise_install(&be);
    route_install(&be);
    loss_install(&be);
    optim_install(&be);
    return &be;
}
