/* SPDX-License-Identifier: MIT */
/* The experts' loads as a file: a line a MoE layer with a number of 0 or more for each expert, `#` comments;
 * what `moe-stat --loads` prints. Only their proportions within a layer matter. */
#ifndef MODEL_LOAD_TABLE_H
#define MODEL_LOAD_TABLE_H

#include "model/model.h"

struct load_table {
    int64_t layers, experts;
    double *load; /* [layers][experts], each from 0 to 1e30 */
};

/* All lines have as many numbers, at least one. -1 with error() (status 2, file:line:column): then t is empty.
 * `-`: stdin. */
int load_table_read(struct load_table *t, const char *path);
int load_table_parse(struct load_table *t, const char *text, size_t bytes, const char *where);
void load_table_release(struct load_table *t);
/* Whether it is of this model: a line for each MoE layer, a number for each expert. -1 with error(). */
int load_table_fits(const struct load_table *t, const struct model *m, const char *where);
/* Whether something was routed in every layer. -1 with error(). */
int load_table_routed(const struct load_table *t, const char *where);

#endif
