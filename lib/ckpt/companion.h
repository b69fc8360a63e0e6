/* SPDX-License-Identifier: MIT */
/* The small files beside a model, the tokenizer's say, which travel along with it. */
#ifndef CKPT_COMPANION_H
#define CKPT_COMPANION_H

#include "ckpt/manifest.h"

/* Writes copies of them into directory `to`, synced, and adds them to the manifest (or NULL). Not the one that
 * is called `but` (or NULL); and, said by complain(), not those that a manifest cannot name. -1: status 3. */
int companions_put(struct manifest *m, const char *from, const char *to, const char *but);

#endif
