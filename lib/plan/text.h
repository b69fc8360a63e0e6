/* SPDX-License-Identifier: MIT */
/* A plan as text: moe-plan(5). */
#ifndef PLAN_TEXT_H
#define PLAN_TEXT_H

#include "plan/plan.h"

/* Reads syntax, completeness and sum; whether it makes sense is plan_check()'s. `-`: stdin. 0, or -1 with error()
 * (status 2, file:line:column): then p is empty. */
int plan_read(struct plan *p, const char *path);
/* The same from text; check_sum false: a wrong sum (or none) is no error, p->sealed says which. */
int plan_parse(struct plan *p, const char *text, size_t bytes, const char *where, bool check_sum);
int plan_write(const struct plan *p, FILE *f); /* with sum */
/* The `predict` record alone. */
void plan_write_predict(const struct plan *p, FILE *f);

#define MODEL_FIGURES  14
#define MAX_PLAN_BYTES ((size_t)512 << 20)

/* The numbers of the `model` record, under their keys: for people and scripts; on reading they must be the
 * config's. */
extern const char *const model_figure_name[MODEL_FIGURES];
void model_figures(const struct model *m, int64_t out[static MODEL_FIGURES]);

/* As exact_num(), whole numbers in full; NaN: "null". Returns buf. */
char *figure_text(double value, char buf[static 32]);

#endif
