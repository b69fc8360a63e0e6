/* SPDX-License-Identifier: MIT */
/* Some tensors of a checkpoint, in one safetensors file. */
#ifndef RECAST_EXTRACT_H
#define RECAST_EXTRACT_H

#include <stdint.h>

struct extract_request {
    const char *dir, *out; /* out NULL or "-": standard output */
    const char *experts;   /* "3,8-9,2:5": the weights of these; or NULL */
    const char *tensor;    /* a name, or a pattern as of a shell; of a step, of the optimizer's too; or NULL */
};

/* How many tensors and bytes, into *tensors and *bytes. Of a step each is compared with the manifest's sum. -1:
 * status 2 where none is found, or one is damaged or of a dtype other than F32, BF16 and F16. */
int extract_tensors(const struct extract_request *r, int *tensors, int64_t *bytes);

#endif
