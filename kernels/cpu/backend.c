/* SPDX-License-Identifier: MIT */
#include "../host.h"

const struct backend *cpu_backend(void)
{
    static struct backend be;
    be = *ref_backend();
    be.name = "cpu";
    return &be;
}
