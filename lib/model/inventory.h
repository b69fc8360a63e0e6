/* SPDX-License-Identifier: MIT */
/* The inventory: every tensor of a model, in checkpoint order. Sharding, memory, initial values, checkpoints
 * and export are loops over it; nothing else knows tensor names or shapes. */
#ifndef MODEL_INVENTORY_H
#define MODEL_INVENTORY_H

#include "model/model.h"
#include "model/tensor.h"

struct inventory {
    struct tensor *tensors;
    int count;
};

/* Order: embedding; for each layer its tensors in tensor_kind order (q k v adjacent, biases adjacent, gate then
 * up then down; experts ascending, each gate, up, down); final norm; head (absent when tied). */
int inventory_init(struct inventory *v, const struct model *m);
void inventory_release(struct inventory *v);

/* The tensor of this kind in this layer (of an expert kind: expert 0's), without building an inventory; layer
 * -1 for the embedding, final norm and head. False where the model has none there. */
bool inventory_tensor(const struct model *m, enum tensor_kind kind, int layer, struct tensor *t);
/* A matrix that every token passes through (an expert's: the tokens routed to it); the router and norms are
 * not. */
bool tensor_multiplies(enum tensor_kind kind);

/* The HF name, e.g. "model.layers.3.mlp.experts.7.up_proj.weight", into buf, which it returns. */
char *tensor_name(const struct model *m, const struct tensor *t, char buf[static 128]);
/* Its shape as JSON has it, "[64,128]", into buf, which it returns. */
char *tensor_shape_text(const struct tensor *t, char buf[static 128]);
/* Index of the tensor with this HF name, or -1. */
int inventory_find(const struct inventory *v, const struct model *m, const char *name);

#endif
