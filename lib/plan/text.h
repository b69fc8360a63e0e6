/* SPDX-License-Identifier: MIT */
/* A plan as text: moe-plan(5). */
#ifndef PLAN_TEXT_H
#define PLAN_TEXT_H

#include "plan/plan.h"

/* Reads syntax, completeness and sum; whether it makes sense is plan_check()'s. `-`: stdin. 0, or -1 with
 * error() (status 2, file:line:column): then p is empty. */
int plan_read(struct plan *p, const char *path);
/* The same from text; check_sum false: a wrong sum (or none) is no error, p->sealed says which. */
int plan_parse(struct plan *p, const char *text, size_t bytes, const char *where, bool check_sum);
int plan_write(const struct plan *p, FILE *f); /* with sum */
/* The `predict` record alone. */
void plan_write_predict(const struct plan *p, FILE *f);

#define MAX_PLAN_BYTES ((size_t)512 << 20)

#endif
