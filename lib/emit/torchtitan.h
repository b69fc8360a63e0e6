/* SPDX-License-Identifier: MIT */
/* Arguments of torchtitan, one a line, with what it does differently in lines that begin with #. Names are
 * those of torchtitan/config and the meshes of torchtitan/distributed/parallel_dims.py in its version 0.2. */
#ifndef EMIT_TORCHTITAN_H
#define EMIT_TORCHTITAN_H

#include "plan/plan.h"

/* -1 with error(): status 2 where it cannot form the plan's groups, 3 when f cannot take it. */
int plan_write_torchtitan(const struct plan *p, FILE *f);

#endif
