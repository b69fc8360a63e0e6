/* SPDX-License-Identifier: MIT */
/* A model by name. */
#ifndef MODEL_LOAD_H
#define MODEL_LOAD_H

#include "model/model.h"

/* MODEL of the command line: an HF config.json, a directory that holds one, "-" (stdin), or a preset's name. 0
 * or -1 (status 2; file:line:column of the bad key). */
int model_load(struct model *m, const char *what);

#endif
