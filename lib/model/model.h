/* SPDX-License-Identifier: MIT */
/* A model, as its Hugging Face config.json describes it.
 *
 * Symbols used everywhere: S sequence, H hidden, F expert width, E experts, K top-k, V vocabulary, L layers. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/losses.h"
#include "model/family.h"

#define CONFIG_FILE "config.json" /* in a Hugging Face directory */

/* What a layer mixes tokens by. */
enum mixer {
    MIX_FULL,   /* attention to all that came before */
    MIX_WINDOW, /* attention to the last `window` tokens */
    MIX_LINEAR, /* linear attention */
};

extern const char *const mixer_name[]; /* full window linear */

/* Linear attention: a gated delta net behind a short convolution. */
struct linear {
    int64_t key_heads, value_heads, key_dim, value_dim; /* dim: of one head */
    int64_t taps;                                       /* of the convolution */
};

struct model {
    int family; /* its row of families[]; model_family() gives it */
    int64_t layers, hidden, heads, kv_heads, head_dim, vocab;
    int64_t experts, top_k, expert_ffn; /* E, K, F */
    int64_t shared_ffn;                 /* width of the shared expert(s) taken as one; 0: none */
    int64_t dense_ffn;                  /* width of the layers that are not MoE; 0: there are none */
    bool *moe;                          /* [layers] which layers are MoE */
    int64_t moe_layers;                 /* 0 in a dense model, which has no experts, K and F either */
    unsigned char *mixer;               /* [layers] enum mixer */

    /* Attention: scores are head_dim wide, values value_dim, which differ in multi-head latent attention (MLA)
     * alone. There k and v come from a latent of kv_rank and rotary_dim more for RoPE, q from one of q_rank. */
    int64_t value_dim;
    int64_t q_rank, kv_rank; /* 0: no such latent */
    struct linear linear;    /* where layers have it */

    bool tied;        /* lm_head shares the embedding */
    bool qkv_bias;    /* q, k and v have biases */
    bool o_bias;      /* and o has one */
    bool mlp_bias;    /* MLPs have biases, shared experts among them */
    bool shared_gate; /* sigmoid gate on the shared expert (Qwen2-MoE) */
    enum qk_norm qk_norm;
    double clip_qkv;    /* 0: none */
    int64_t rotary_dim; /* even, <= head_dim: the part of a head that RoPE turns */
    double rope_theta;
    double norm_eps, init_std;

    bool sigmoid;               /* router scores: sigmoid, with correction bias; else softmax */
    bool renormalise;           /* the K weights are divided by their sum */
    int64_t groups, top_groups; /* group-limited routing; 1, 1: none */
    double route_scale;
    double loss_coef[ROUTER_LOSSES]; /* coefficients of the losses (base/losses.h has their keys); 0: off */
    double bias_rate;                /* of the aux-free bias; key router_bias_update_rate, ours; 0: off */

    int64_t window; /* tokens that a token attends to, itself the last; 0: all. Does not act in sequences of
                            * that length or less */
    int64_t max_positions; /* 0: unknown */
    bool bf16;             /* torch_dtype/dtype says bfloat16 */
    char other_dtype[24];  /* what it says when that is neither bfloat16 nor float32, or "" */
    char quantised[24];    /* how its weights are quantised ("fp8"); "": they are not */
    char wrapped[40];      /* the model_type around it, whose text part this is, or "" */
    char plan_only[200];   /* why moe-train cannot run it ("hidden_act 'gelu'"), or "" */
    char assumed[200];     /* sizes that the config leaves out, and what they are taken for, or "" */

    char *source; /* the config verbatim, NUL-terminated */
    size_t source_bytes;
    uint32_t source_crc32; /* zlib's crc32 */
    char name[64];         /* preset's or directory's name: for people */
};

void model_release(struct model *m);

static inline const struct family *model_family(const struct model *m)
{
    return &families[m->family];
}
/* Layers of a kind have the same tensors and cost the same: by mixer, MoE or not. */
enum { LAYER_KINDS = 2 * (MIX_LINEAR + 1) };
static inline int model_layer_kind(const struct model *m, int64_t layer)
{
    return m->mixer[layer] * 2 + m->moe[layer];
}
static inline int64_t model_q_dim(const struct model *m)
{
    return m->heads * m->head_dim;
}
static inline int64_t linear_keys(const struct model *m)
{
    return m->linear.key_heads * m->linear.key_dim;
}
static inline int64_t linear_values(const struct model *m)
{
    return m->linear.value_heads * m->linear.value_dim;
}
static inline int64_t model_kv_dim(const struct model *m)
{
    return m->kv_heads * m->head_dim;
}

#endif
