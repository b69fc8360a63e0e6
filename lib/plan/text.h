/* SPDX-License-Identifier: MIT */
/* What the writer and the reader of plans share. */
#ifndef PLAN_TEXT_H
#define PLAN_TEXT_H

#include "plan/plan.h"

#define MODEL_FIGURES  14
#define MAX_PLAN_BYTES ((size_t)512 << 20)

/* The numbers of the `model` record, under their keys: for people and scripts; on reading they must be the
 * config's. */
extern const char *const model_figure_name[MODEL_FIGURES];
void model_figures(const struct model *m, int64_t out[static MODEL_FIGURES]);

/* As exact_num(), whole numbers in full; NaN: "null". Returns buf. */
char *figure_text(double value, char buf[static 32]);

/* The `predict` record. */
void plan_write_predict(const struct plan *p, FILE *f);

#endif
