/* SPDX-License-Identifier: MIT */
/* How tensors are called in Hugging Face checkpoints: a template for each kind.
 *
 * The kinds within a layer follow "model.layers.L."; a '#' in the template is the number of the expert. So
 * T_EXPERT_UP's "mlp.experts.#.up_proj.weight" is "model.layers.3.mlp.experts.7.up_proj.weight" for layer 3,
 * expert 7.
 *
 * Most names are the same in every family. A style has the others; a family's row in family.c points to its
 * style. */
#ifndef MODEL_TENSOR_NAMES_H
#define MODEL_TENSOR_NAMES_H

#include "model/tensor.h"

struct tensor_names {
    const char *own[TENSOR_KINDS]; /* NULL: the common name */
};
/* One for each style: adding one is a table here and in tensor_names.c. */
extern const struct tensor_names names_common, /* mlp.gate, mlp.experts, mlp.shared_expert */
    names_shared_experts,                      /* the same with mlp.shared_experts, also where it is one */
    names_router,                              /* the same with mlp.router */
    names_block_sparse_moe;                    /* block_sparse_moe.gate, .experts.#.w1 w3 w2: gate up down */

/* The template of this kind; never NULL. */
const char *tensor_template(const struct tensor_names *names, enum tensor_kind kind);

#endif
