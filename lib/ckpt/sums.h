/* SPDX-License-Identifier: MIT */
/* Files against their checksums. */
#ifndef CKPT_SUMS_H
#define CKPT_SUMS_H

#include <stdint.h>

#include "ckpt/manifest.h"
#include "ckpt/problems.h"

/* A part of the work: that of one rank of several, by bytes. */
struct sums_part {
    int64_t part, parts; /* part from 0 */
    int threads;
};

/* Reads every file of the manifest, on several threads, and compares sizes and checksums, tensor by tensor;
 * or a part of that (NULL: all): the parts together read every byte once, a tensor being of the part in
 * which it begins. Returns the bytes read. */
int64_t sums_verify(struct problems *p, const struct manifest *m, const char *dir,
                    const struct sums_part *part);

#endif
