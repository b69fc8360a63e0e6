/* SPDX-License-Identifier: MIT */
/* Inside of verify: what is wrong, noted by several threads. */
#ifndef CKPT_PROBLEMS_H
#define CKPT_PROBLEMS_H

#include "ckpt/manifest.h"
#include "ckpt/verify.h"

void problem(struct verified *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Reads every file of the manifest, on several threads, and compares sizes and checksums, tensor by tensor. */
void verify_sums(struct verified *v, const struct manifest *m, const char *dir);

#endif
