/* SPDX-License-Identifier: MIT */
/* The inventory: every tensor of a model, in checkpoint order. Sharding, memory, initial values, checkpoints
 * and export are loops over it; nothing else knows tensor names or shapes. */
#ifndef MODEL_INVENTORY_H
#define MODEL_INVENTORY_H

#include "model/model.h"

enum tensor_kind {
    T_EMBED,
    T_INPUT_NORM,
    T_Q,
    T_K,
    T_V,
    T_Q_BIAS,
    T_K_BIAS,
    T_V_BIAS,
    T_Q_NORM,
    T_K_NORM,
    T_O,
    T_POST_NORM,
    T_GATE,
    T_UP,
    T_DOWN, /* the MLP of a dense layer */
    T_ROUTER,
    T_ROUTER_BIAS,
    T_SHARED_GATE,
    T_SHARED_UP,
    T_SHARED_DOWN,   /* the shared expert's SwiGLU */
    T_SHARED_SWITCH, /* its sigmoid gate, [1,H] */
    T_EXPERT_GATE,
    T_EXPERT_UP,
    T_EXPERT_DOWN,
    T_FINAL_NORM,
    T_HEAD,
    TENSOR_KINDS
};

/* How tensor parallelism (tp for dense tensors, etp for experts) cuts a tensor. */
enum tensor_cut {
    CUT_NONE,  /* every rank has it all */
    CUT_ROWS,  /* even runs of rows */
    CUT_COLS,  /* even runs of columns */
    CUT_VOCAB, /* runs of rows as even as can be: the first V mod tp are one longer */
    CUT_HEADS, /* rows by query head */
    CUT_KV,    /* rows by key/value head; with tp > kv_heads each head is on tp/kv_heads ranks */
};

struct tensor {
    enum tensor_kind kind;
    int layer;          /* -1: outside the layers (embedding, final norm, head) */
    int expert;         /* -1: dense */
    int dims;           /* 1 or 2 */
    int64_t rows, cols; /* a vector of n is rows n, cols 1 with dims 1 */
    enum tensor_cut cut;
    bool trained; /* false: a buffer (router correction bias), f32 in checkpoints, no optimizer state */
    bool decayed; /* weight decay: two or more dimensions */
    bool ones;    /* initial value 1 (norms); biases start at 0; everything else normal(0, init_std) */
    bool zeros;
};

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
/* Index of the tensor with this HF name, or -1. */
int inventory_find(const struct inventory *v, const struct model *m, const char *name);
static inline int64_t tensor_count(const struct tensor *t)
{
    return t->rows * t->cols;
}

#endif
