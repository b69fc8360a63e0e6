/* SPDX-License-Identifier: MIT */
/* A model from the text of its config.json. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "model/model.h"

/* From text (kept by copy); `where` names it in errors. Every field is checked: missing, negative, huge,
 * contradictory. */
int model_parse(struct model *m, const char *text, size_t bytes, const char *where);

#endif
