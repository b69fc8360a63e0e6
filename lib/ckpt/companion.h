/* SPDX-License-Identifier: MIT */
/* The small files beside a model, the tokenizer's say, which travel along with it. */
#ifndef CKPT_COMPANION_H
#define CKPT_COMPANION_H

#include <stdbool.h>
#include <stddef.h>

#define COMPANION_BYTES ((size_t)64 << 20) /* at most */

/* Whether a file beside a model is neither the model nor ours. */
bool is_companion(const char *dir, const char *name);

#endif
