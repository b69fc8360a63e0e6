/* SPDX-License-Identifier: MIT */
/* Arguments of Megatron-LM's pretrain_gpt.py, one a line, with what it does differently in lines that begin
 * with #. Names are those of megatron/training/arguments.py at 000c4ac24f61 (Megatron Core 0.14 and later). */
#ifndef EMIT_MEGATRON_H
#define EMIT_MEGATRON_H

#include "plan/plan.h"

/* -1 with error(): status 2 where it cannot form the plan's groups, 3 when f cannot take it. */
int plan_write_megatron(const struct plan *p, FILE *f);

#endif
