/* SPDX-License-Identifier: MIT */
/* Files against their checksums. */
#ifndef CKPT_SUMS_H
#define CKPT_SUMS_H

#include "ckpt/manifest.h"
#include "ckpt/problems.h"

/* Reads every file of the manifest, on several threads, and compares sizes and checksums, tensor by tensor. */
void sums_verify(struct problems *p, const struct manifest *m, const char *dir);

#endif
