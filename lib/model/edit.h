/* SPDX-License-Identifier: MIT */
/* A config.json with some keys changed; all others stay, those that we do not know too. */
#ifndef MODEL_EDIT_H
#define MODEL_EDIT_H

#include "model/model.h"

/* The model's config with so many experts, under each key that says how many. Caller frees; NULL with error().
 */
char *config_with_experts(const struct model *m, int64_t experts);
/* With these weights' dtype ("float32"), where it says one. */
char *config_with_dtype(const struct model *m, const char *dtype);

#endif
