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
    T_SINKS, /* a logit a head that takes part in the softmax and has no value */
    /* Multi-head latent attention: q and k|v by way of narrow latents, each with a norm. */
    T_Q_A,
    T_Q_A_BIAS,
    T_Q_A_NORM,
    T_Q_B,
    T_KV_A,
    T_KV_A_BIAS,
    T_KV_A_NORM,
    T_KV_B,
    /* Linear attention (a gated delta net), in the place of attention. */
    T_LINEAR_DT_BIAS,
    T_LINEAR_A_LOG,
    T_LINEAR_CONV, /* [channels,1,taps] */
    T_LINEAR_QKVZ,
    T_LINEAR_BA,
    T_LINEAR_NORM,
    T_LINEAR_O,
    T_POST_NORM,
    T_GATE,
    T_UP,
    T_DOWN, /* the MLP of a dense layer */
    T_GATE_BIAS,
    T_UP_BIAS,
    T_DOWN_BIAS,
    T_ROUTER,
    T_ROUTER_BIAS, /* the correction bias, a buffer */
    T_ROUTER_TRAINED_BIAS,
    T_SHARED_GATE,
    T_SHARED_UP,
    T_SHARED_DOWN,   /* the shared expert's SwiGLU */
    T_SHARED_SWITCH, /* its sigmoid gate, [1,H] */
    T_SHARED_GATE_BIAS,
    T_SHARED_UP_BIAS,
    T_SHARED_DOWN_BIAS,
    /* All experts of a layer in one tensor, transposed: [E,H,2F] with gate and up in turn, [E,2F], [E,F,H],
     * [E,H]. */
    T_STACK_GATE_UP,
    T_STACK_GATE_UP_BIAS,
    T_STACK_DOWN,
    T_STACK_DOWN_BIAS,
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
    int dims;           /* 1 to 3, see tensor_shape() */
    int64_t stack;      /* so many experts' parts lie one after the other; 0: none */
    int64_t rows, cols; /* of one part; a vector of n is rows n, cols 1 */
    enum tensor_cut cut;
    bool trained; /* false: a buffer (router correction bias), f32 in checkpoints, no optimizer state */
    bool decayed; /* weight decay: two or more dimensions */
    bool ones;    /* initial value 1 (norms); biases start at 0; everything else normal(0, init_std) */
    bool zeros;
};

static inline int64_t tensor_count(const struct tensor *t)
{
    return (t->stack ? t->stack : 1) * t->rows * t->cols;
}
/* Cut by expert parallelism, not by the dense part's axes. */
static inline bool tensor_of_experts(const struct tensor *t)
{
    return t->expert >= 0 || t->stack;
}
/* Its shape in a checkpoint; how many dimensions. [rows], [rows,cols], of a convolution over each channel alone
 * [rows,1,cols]; before them the stack. */
static inline int tensor_shape(const struct tensor *t, int64_t shape[static 3])
{
    int n = 0;
    if (t->stack)
        shape[n++] = t->stack;
    shape[n++] = t->rows;
    if (t->dims - n == 2)
        shape[n++] = 1;
    if (t->dims > n)
        shape[n++] = t->cols;
    return n;
}

#endif
