/* SPDX-License-Identifier: MIT */
/* Figures of a tensor's numbers. */
#ifndef CKPT_STATS_H
#define CKPT_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "tensors/hfdir.h"

struct tensor_stats {
    bool known;     /* false: not of F32, BF16 or F16 */
    double norm;    /* the root of the sum of squares, in double precision; without what is not finite */
    double max_abs; /* likewise */
    int64_t odd;    /* how many are infinite or NaN */
};

/* Reads all of the tensor. */
int tensor_stats(struct tensor_stats *s, struct hf_dir *d, int file, const struct st_tensor *t);

#endif
