/* SPDX-License-Identifier: MIT */
/* Files against their checksums. */
#ifndef CKPT_SUMS_H
#define CKPT_SUMS_H

#include <stdbool.h>

#include "ckpt/manifest.h"
#include "ckpt/problems.h"
#include "tensors/safetensors.h"

/* The metadata of a safetensors file that says of which step it is. */
#define STEP_KEY "step"

/* Whether every file is there, and has its size. */
void sums_sizes(struct problems *p, const struct manifest *m, const char *dir);
/* Reads and sums the files that hold no tensors, or the one of this name (NULL: all). */
void sums_side_files(struct problems *p, const struct manifest *m, const char *dir, const char *name);
/* Of an open file of tensors: whether it is of the manifest's step, holds what the manifest lists and nothing
 * else, and whether its header and the sums listed of its tensors and their ranges make its own. So what the
 * tensors' bytes are is all that is left to ask. */
void sums_header(struct problems *p, const struct manifest *m, const struct manifest_file *f,
                 const struct st_file *st);

/* All of the above, and the bytes of every tensor: on several threads, range by range. */
void sums_verify(struct problems *p, const struct manifest *m, const char *dir);

#endif
