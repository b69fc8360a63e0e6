/* SPDX-License-Identifier: MIT */
/* The families of models. What sets a family apart is its row in family.c, and no other file names a family:
 * all ask the row, or the fields of struct model that were read by it.
 *
 * A row says what transformers' config class and modules for that model_type say: under which keys config.json
 * has what is not the same everywhere, what an absent key means, and how the tensors are called. Keys that
 * every family has under one name (hidden_size, rms_norm_eps, …) stand where they are read; the row has their
 * defaults.
 *
 * A member that a row leaves out is a part the family does not have. So a family whose parts are all here is
 * one more row, and a new part leaves the other rows as they are:
 *   a key, a default, another spelling   a member here, read by the file of its topic (config.c,
 *                                        config_attention.c, config_moe.c)
 *   a tensor                             its kind in tensor.h, its shape in inventory.c, its name in
 *                                        tensor_names.c
 *   a computation                        a field of struct model, which the engine asks
 *   something we can plan but not train  config_plan_only() where its key is read */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/words.h"

struct tensor_names;

/* A key and its value when it is absent. With key NULL the value is always `absent`. */
struct int_key {
    const char *key;
    int64_t absent;
};
struct num_key {
    const char *key;
    double absent;
};
struct flag_key {
    const char *key;
    bool absent;
};

enum qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD, /* over head_dim, the same weights for every head */
    QK_NORM_FULL, /* over the whole projection; q's must be hidden_size wide */
};

/* Which layers have the window, where no array of words says it. */
enum window_layers {
    WINDOW_ALL,
    WINDOW_EVEN,       /* the first, the third … */
    WINDOW_EVEN_BELOW, /* of the layers before that of `layers`, the first, the third … */
    WINDOW_FROM,       /* the layers from that of `layers` on */
};

/* Layers that attend to the last tokens alone. A window shorter than the plan's sequences is plan only. */
struct window_keys {
    struct int_key tokens;    /* how far back (null: all). Key NULL: there are no windows; absent 0: all */
    const char *on;           /* a flag that must be true, absent false; NULL: a window that is given is used */
    const char *types;        /* an array with a word for each layer, "full_attention" without a window … */
    enum window_layers which; /* … and where there is no array */
    struct int_key layers;    /* a layer's number for that */
};

/* Multi-head latent attention. A head is `nope` and `rope` wide in its scores. */
struct latent_keys {
    struct int_key kv_rank; /* key NULL: the family has none */
    struct int_key q_rank;  /* null: q has no latent */
    struct int_key nope, rope, value;
};

/* Linear attention in some layers. */
struct linear_keys {
    struct int_key key_heads, value_heads, key_dim, value_dim, taps; /* key NULL: the family has none */
    const char *types; /* an array with a word for each layer, "linear_attention" or "full_attention" … */
    struct int_key interval; /* … and where there is none: every so many layers one has attention */
};

struct family {
    const char *type; /* config.json's model_type. First: the table is a list of words too */
    const char *also; /* another model_type that is this one, as the text part of others has it; or NULL */
    const struct tensor_names *names; /* its style, of tensor_names.h */
    bool more_layers; /* checkpoints have layers after the last (multi-token prediction), to be left alone */

    /* Defaults of keys that every family has. A size that is left out is taken from here, as transformers does,
     * and said (struct model's `assumed`). */
    int64_t layers, hidden, heads, vocab;
    int64_t expert_count;  /* of `experts` */
    int64_t dense_ffn;     /* intermediate_size */
    int64_t max_positions; /* max_position_embeddings */
    int64_t kv_heads;      /* num_key_value_heads; 0: as many as heads, what null is in every family */
    int64_t top_k;    /* num_experts_per_tok; negative: transformers has no default, and -top_k is assumed */
    int64_t head_dim; /* 0: hidden_size / heads */
    bool whole_heads; /* transformers refuses a hidden_size that heads do not divide */
    double norm_eps;  /* rms_norm_eps */
    double rope_theta;
    double aux_coef; /* router_aux_loss_coef */

    /* Attention. */
    struct flag_key qkv_bias;
    bool o_bias; /* the key of qkv_bias gives o one too */
    enum qk_norm qk_norm;
    const char *qk_norm_on;  /* a flag that must be true, absent false; NULL: the norms are always there */
    struct num_key clip_qkv; /* 0: not clipped */
    double rotary_part;      /* partial_rotary_factor's default; 0: the whole head, whatever the key says */
    struct window_keys window;
    struct latent_keys latent;
    struct linear_keys linear;
    bool q_gate;        /* q_proj makes a gate of the output too */
    bool sinks;         /* each head has a logit that takes part in the softmax and has no value */
    bool centred_norms; /* norms multiply by 1 + their weights */
    bool yarn;          /* RoPE is yarn when nothing is said of it */
    struct flag_key mlp_bias;

    /* Experts. */
    const char *experts[4];    /* E: the key in new files, then other spellings that are read, then NULL; none:
                                    * the family is dense */
    struct int_key expert_ffn; /* F */
    struct int_key shared_ffn; /* the shared expert's width; 0: none */
    struct int_key shared_experts; /* or how many, each F wide */
    bool shared_gate;              /* with a sigmoid gate */
    bool stacked; /* a layer's experts are one tensor, with biases, and a SwiGLU of their own */

    /* The router. */
    bool sigmoid; /* scores are sigmoids, with a correction bias that selection sees; else softmax */
    struct flag_key renormalise;
    struct num_key route_scale;        /* key NULL: 1 */
    bool router_bias;                  /* it is trained, with the router's weights */
    struct int_key groups, top_groups; /* key NULL: not in groups */
    const char *grouped_by;   /* a word, which must be "group_limited_greedy" for groups to count; then a
                                        * group's score is its best expert's, else the sum of its best two */
    const char *untrained[2]; /* numbers in [0,1] that make it plan only when above 0; then NULL */

    /* Which layers are MoE: layer l (from 0) unless l < first_dense, or sparse_step does not divide l+1, or the
     * list has l. */
    struct int_key first_dense;
    const char *sparse_step; /* NULL: 1 */
    const char *dense_list;  /* an array; NULL: none */
};

extern const struct family families[];  /* a row with type NULL ends them */
extern const struct words family_words; /* their types */

#endif
