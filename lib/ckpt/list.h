/* SPDX-License-Identifier: MIT */
/* What a checkpoint holds, as text for people and as JSON. */
#ifndef CKPT_LIST_H
#define CKPT_LIST_H

#include <stdbool.h>
#include <stdio.h>

enum list_form { LIST_FILES, LIST_TENSORS, LIST_JSON };

/* Of a step directory, any Hugging Face directory, or (LIST_FILES, LIST_JSON) a root: a line a whole step.
 * stats: with figures of each tensor's numbers, which are read then. -1: status 2. */
int list_dir(const char *path, enum list_form form, bool stats, FILE *out);

#endif
