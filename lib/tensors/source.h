/* SPDX-License-Identifier: MIT */
/* Where a model's tensors are found in a Hugging Face directory: each under its own name, or within a fused
 * tensor that holds all experts of a layer (mlp.experts.gate_up_proj [E,2F,H], mlp.experts.down_proj [E,H,F]).
 */
#ifndef TENSORS_SOURCE_H
#define TENSORS_SOURCE_H

#include "model/inventory.h"
#include "tensors/convert.h"
#include "tensors/hfdir.h"

/* One tensor of the inventory: [rows,cols] at `offset` of a file's data. */
struct stored {
    int file;
    int64_t offset;
    enum number number;
};

/* Whether a file has the tensor in this shape. */
bool source_same_shape(const struct st_tensor *f, const struct tensor *t);
/* -1 with error() (status 2: file, tensor, what was expected and what was found). */
int source_find(struct hf_dir *d, const struct model *m, const struct tensor *t, struct stored *out);
/* Whether it is there in its shape, in any dtype: also in one that can only be carried. 0 or -1 as above. */
int source_has(struct hf_dir *d, const struct model *m, const struct tensor *t);

/* Every name that the model's tensors may have, the fused ones too, sorted. */
struct source_names {
    char **list;
    int count;
};
struct source_names source_names(const struct model *m, const struct inventory *v);
void source_names_release(struct source_names *known);
/* The next name in the directory from *at on that is neither the model's nor known to be no parameter of it;
 * NULL after the last. `known` is source_names()'s. */
const struct hf_name *source_stranger(const struct hf_dir *d, const struct model *m,
                                      const struct source_names *known, int *at);
/* Of a checkpoint of our own: -1 (status 2) when it holds a stranger. */
int source_extras(const struct hf_dir *d, const struct model *m, const struct inventory *v);
/* Says, in a notice, which tensors of the directory are not the model's and so not read, as transformers does.
 */
void source_say_strangers(const struct hf_dir *d, const struct model *m, const struct inventory *v);
/* The fused tensor's name that holds t, an expert's; *row: the first row of t's in it, of *rows. */
char *source_fused_name(const struct model *m, const struct tensor *t, int64_t *row, int64_t *rows,
                        char buf[static 128]);

#endif
