/* SPDX-License-Identifier: MIT */
/* The same model in other files: export and import. */
#ifndef RECAST_EXPORT_H
#define RECAST_EXPORT_H

#include <stdint.h>

enum export_form {
    FORM_PUBLISHED, /* as the family's models are published: a tensor an expert, or one for all of a layer */
    FORM_FUSED,     /* the experts of a layer in mlp.experts.gate_up_proj [E,2F,H] and down_proj [E,H,F] */
    FORM_EXPERTS,   /* as published, in dense.safetensors and expert-NNN.safetensors, as our steps have it */
};

struct export_request {
    const char *dir, *out;
    enum export_form form;
    const char *dtype;   /* "f32", "bf16"; NULL: as they are */
    int64_t shard_bytes; /* of data in a file; 0: SHARD_BYTES. Not for FORM_EXPERTS */
};

struct exported {
    int files, tensors;
    int64_t bytes;
};

/* Weights alone, no optimizer. To f32, of a step whose optimizer has them in f32, those are taken, which is
 * said. Correction biases of routers keep their dtype. -1: status 2 or 3, and nothing is left. */
int export_dir(const struct export_request *r, struct exported *done);

#endif
