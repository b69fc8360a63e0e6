/* SPDX-License-Identifier: MIT */
/* Whether what a step directory says of itself fits together, before its bytes are read (sums.h). */
#ifndef CKPT_WHOLE_H
#define CKPT_WHOLE_H

#include "ckpt/manifest.h"
#include "ckpt/problems.h"

/* Notes what is wrong: files that must be listed and are not; a name (where it is a step's), a manifest and
 * a state.json that are not of one step. */
void whole_check(struct problems *p, const struct manifest *m, const char *dir);

#endif
