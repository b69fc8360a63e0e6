/* SPDX-License-Identifier: MIT */
/* The choice of experts from scores, shared by the backends: the same scores give the same choice. */
#ifndef KERNELS_CHOICE_H
#define KERNELS_CHOICE_H

#include "ops.h"

struct choice_scratch;
struct choice_scratch *choice_scratch_new(int64_t experts);
void choice_scratch_free(struct choice_scratch *s);

/* Writes topk, weight and margin of token t, whose scores are there. */
void choose(const struct router *p, int64_t t, struct choice_scratch *s);

#endif
