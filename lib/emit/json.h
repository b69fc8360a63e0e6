/* SPDX-License-Identifier: MIT */
/* The plan as one JSON object, everything expanded: `moe-partition emit json` (moe-plan(5) lists the members).
 */
#ifndef EMIT_JSON_H
#define EMIT_JSON_H

#include "plan/plan.h"

/* -1 with error() (status 3) when f cannot take it. */
int plan_write_json(const struct plan *p, FILE *f);

#endif
