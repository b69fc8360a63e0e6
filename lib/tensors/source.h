/* SPDX-License-Identifier: MIT */
/* Where a model's tensors are found in a Hugging Face directory: each under its own name, or within a fused
 * tensor that holds all experts of a layer (mlp.experts.gate_up_proj [E,2F,H], mlp.experts.down_proj [E,H,F]).
 */
#ifndef CKPT_SOURCE_H
#define CKPT_SOURCE_H

#include "model/inventory.h"
#include "tensors/convert.h"
#include "tensors/hfdir.h"

/* One tensor of the inventory: [rows,cols] at `offset` of a file's data. */
struct stored {
    int file;
    int64_t offset;
    enum number number;
};

/* -1 with error() (status 2: file, tensor, what was expected and what was found). */
int source_find(struct hf_dir *d, const struct model *m, const struct tensor *t, struct stored *out);
/* Every name in the directory must be one the model has, or one that is known to be no parameter of it. -1
 * (status 2). */
int source_extras(const struct hf_dir *d, const struct model *m, const struct inventory *v);
/* Whether this name, which the inventory does not have, may be there all the same. */
bool source_tolerates(const struct model *m, const char *name);
/* The fused tensor's name that holds t, an expert's; *row: the first row of t's in it, of *rows. */
char *source_fused_name(const struct model *m, const struct tensor *t, int64_t *row, int64_t *rows,
                        char buf[static 128]);

#endif
