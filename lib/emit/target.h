/* SPDX-License-Identifier: MIT */
/* What the forms for other tools share. */
#ifndef EMIT_TARGET_H
#define EMIT_TARGET_H

#include "plan/plan.h"

/* "# moe-7b on 128 ranks of ref-64g: written by moe-partition emit slurm\n" */
void emit_title(const struct plan *p, const char *form, FILE *f);

/* Whether every rank stands where this order puts it, whatever the plan's is called. */
bool stands_by(const struct plan *p, const char *order);
/* Layers of each virtual stage; 0 when they differ. */
int even_layers(const struct plan *p);
/* Whether experts lie in order, expert e in slot e, as many on each ep rank. */
bool experts_in_order(const struct plan *p);

#endif
