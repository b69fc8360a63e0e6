/* SPDX-License-Identifier: MIT */
/* DeepSpeed's configuration: one JSON object. What DeepSpeed takes elsewhere, or does differently, is in
 * members that begin with #, which it does not read: the arguments of its MoE layer, the groups it forms,
 * notes. Names and groups are those of deepspeed/moe/layer.py at 639460ab3299 and deepspeed/utils/groups.py at
 * 0899bfad0257. */
#ifndef EMIT_DEEPSPEED_H
#define EMIT_DEEPSPEED_H

#include "plan/plan.h"

/* -1 with error(): status 2 where it cannot form the plan's groups or share its memory so, 3 when f cannot
 * take it. */
int plan_write_deepspeed(const struct plan *p, FILE *f);

#endif
