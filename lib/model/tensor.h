/* SPDX-License-Identifier: MIT */
/* One tensor of a model: what it is, its shape, how tensor parallelism cuts it. */
#ifndef MODEL_TENSOR_H
#define MODEL_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

/* In the order in which a layer's tensors stand in a checkpoint. */
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
    T_O_BIAS,
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

static inline int64_t tensor_count(const struct tensor *t)
{
    return t->rows * t->cols;
}

#endif
