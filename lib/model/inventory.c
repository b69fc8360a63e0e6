/* SPDX-License-Identifier: MIT */
#include "model/inventory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"

/* A size in terms of the model. */
enum size { NONE, ONE, HIDDEN, VOCAB, Q_DIM, KV_DIM, Q_NORM, K_NORM, DENSE_F, SHARED_F, EXPERT_F, EXPERTS };

/* Where a tensor is found, and whether a model has it. */
enum place {
    FIRST, /* before the layers */
    LAST,  /* after them */
    HEAD,  /* after them, unless tied */
    EACH,  /* every layer */
    BIASED,
    NORMED,
    DENSE, /* layers that are not MoE */
    MOE,   /* layers that are */
    CORRECTED,
    SHARED,
    SWITCHED,
    EXPERT, /* MoE layers, once for each expert */
};

enum {
    NORM = 1,   /* starts at 1 */
    ZERO = 2,   /* starts at 0 */
    BUFFER = 4, /* not trained */
    MATRIX = 8, /* tokens are multiplied by it */
};

/* Names: '#' is a number, first the layer's, then the expert's; within a layer they follow "model.layers.#.". A
 * name of a family's own replaces the common one. */
static const struct spec {
    enum place place;
    enum size rows, cols;
    enum tensor_cut cut;
    int flags;
    const char *name, *mixtral, *glm4;
} specs[TENSOR_KINDS] = {
    [T_EMBED] = {FIRST, VOCAB, HIDDEN, CUT_VOCAB, 0, "model.embed_tokens.weight"},

    [T_INPUT_NORM] = {EACH, HIDDEN, NONE, CUT_NONE, NORM, "input_layernorm.weight"},
    [T_Q] = {EACH, Q_DIM, HIDDEN, CUT_HEADS, MATRIX, "self_attn.q_proj.weight"},
    [T_K] = {EACH, KV_DIM, HIDDEN, CUT_KV, MATRIX, "self_attn.k_proj.weight"},
    [T_V] = {EACH, KV_DIM, HIDDEN, CUT_KV, MATRIX, "self_attn.v_proj.weight"},
    [T_Q_BIAS] = {BIASED, Q_DIM, NONE, CUT_HEADS, ZERO, "self_attn.q_proj.bias"},
    [T_K_BIAS] = {BIASED, KV_DIM, NONE, CUT_KV, ZERO, "self_attn.k_proj.bias"},
    [T_V_BIAS] = {BIASED, KV_DIM, NONE, CUT_KV, ZERO, "self_attn.v_proj.bias"},
    [T_Q_NORM] = {NORMED, Q_NORM, NONE, CUT_HEADS, NORM, "self_attn.q_norm.weight"},
    [T_K_NORM] = {NORMED, K_NORM, NONE, CUT_KV, NORM, "self_attn.k_norm.weight"},
    [T_O] = {EACH, HIDDEN, Q_DIM, CUT_COLS, MATRIX, "self_attn.o_proj.weight"},
    [T_POST_NORM] = {EACH, HIDDEN, NONE, CUT_NONE, NORM, "post_attention_layernorm.weight"},

    [T_GATE] = {DENSE, DENSE_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.gate_proj.weight"},
    [T_UP] = {DENSE, DENSE_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.up_proj.weight"},
    [T_DOWN] = {DENSE, HIDDEN, DENSE_F, CUT_COLS, MATRIX, "mlp.down_proj.weight"},

    [T_ROUTER] = {MOE, EXPERTS, HIDDEN, CUT_NONE, 0, "mlp.gate.weight", "block_sparse_moe.gate.weight"},
    [T_ROUTER_BIAS] = {CORRECTED, EXPERTS, NONE, CUT_NONE, ZERO | BUFFER, "mlp.gate.e_score_correction_bias"},
    [T_SHARED_GATE] = {SHARED, SHARED_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.shared_expert.gate_proj.weight",
                       .glm4 = "mlp.shared_experts.gate_proj.weight"},
    [T_SHARED_UP] = {SHARED, SHARED_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.shared_expert.up_proj.weight",
                     .glm4 = "mlp.shared_experts.up_proj.weight"},
    [T_SHARED_DOWN] = {SHARED, HIDDEN, SHARED_F, CUT_COLS, MATRIX, "mlp.shared_expert.down_proj.weight",
                       .glm4 = "mlp.shared_experts.down_proj.weight"},
    [T_SHARED_SWITCH] = {SWITCHED, ONE, HIDDEN, CUT_NONE, 0, "mlp.shared_expert_gate.weight"},

    [T_EXPERT_GATE] = {EXPERT, EXPERT_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.experts.#.gate_proj.weight",
                       "block_sparse_moe.experts.#.w1.weight"},
    [T_EXPERT_UP] = {EXPERT, EXPERT_F, HIDDEN, CUT_ROWS, MATRIX, "mlp.experts.#.up_proj.weight",
                     "block_sparse_moe.experts.#.w3.weight"},
    [T_EXPERT_DOWN] = {EXPERT, HIDDEN, EXPERT_F, CUT_COLS, MATRIX, "mlp.experts.#.down_proj.weight",
                       "block_sparse_moe.experts.#.w2.weight"},

    [T_FINAL_NORM] = {LAST, HIDDEN, NONE, CUT_NONE, NORM, "model.norm.weight"},
    [T_HEAD] = {HEAD, VOCAB, HIDDEN, CUT_VOCAB, MATRIX, "lm_head.weight"},
};

static int64_t size_of(const struct model *m, enum size size)
{
    switch (size) {
    case HIDDEN:
        return m->hidden;
    case VOCAB:
        return m->vocab;
    case Q_DIM:
        return model_q_dim(m);
    case KV_DIM:
        return model_kv_dim(m);
    case Q_NORM:
        return m->qk_norm == QK_NORM_FULL ? model_q_dim(m) : m->head_dim;
    case K_NORM:
        return m->qk_norm == QK_NORM_FULL ? model_kv_dim(m) : m->head_dim;
    case DENSE_F:
        return m->dense_ffn;
    case SHARED_F:
        return m->shared_ffn;
    case EXPERT_F:
        return m->expert_ffn;
    case EXPERTS:
        return m->experts;
    default:
        return 1;
    }
}

static bool stands_in(const struct model *m, enum place place, int layer)
{
    if (layer < 0)
        return place == FIRST || place == LAST || (place == HEAD && !m->tied);
    bool moe = m->moe[layer];
    switch (place) {
    case EACH:
        return true;
    case BIASED:
        return m->qkv_bias;
    case NORMED:
        return m->qk_norm != QK_NORM_NONE;
    case DENSE:
        return !moe;
    case MOE:
    case EXPERT:
        return moe;
    case CORRECTED:
        return moe && m->sigmoid;
    case SHARED:
        return moe && m->shared_ffn;
    case SWITCHED:
        return moe && m->shared_ffn && m->shared_gate;
    default:
        return false;
    }
}

bool tensor_multiplies(enum tensor_kind kind)
{
    return specs[kind].flags & MATRIX;
}

bool inventory_tensor(const struct model *m, enum tensor_kind kind, int layer, struct tensor *t)
{
    const struct spec *s = &specs[kind];
    if (!stands_in(m, s->place, layer))
        return false;
    *t = (struct tensor){
        .kind = kind,
        .layer = layer,
        .expert = s->place == EXPERT ? 0 : -1,
        .dims = s->cols == NONE ? 1 : 2,
        .rows = size_of(m, s->rows),
        .cols = size_of(m, s->cols),
        .cut = s->cut,
        .trained = !(s->flags & BUFFER),
        .decayed = s->cols != NONE,
        .ones = s->flags & NORM,
        .zeros = s->flags & ZERO,
    };
    /* a norm over one head is the same for every head: each rank has it whole */
    if (s->place == NORMED && m->qk_norm == QK_NORM_HEAD)
        t->cut = CUT_NONE;
    return true;
}

/* Appends what stands in one layer (or outside them); with `tensors` NULL it only counts. */
static int64_t list(const struct model *m, int layer, enum tensor_kind from, enum tensor_kind to,
                    struct tensor *tensors)
{
    int64_t n = 0;
    struct tensor t;
    for (int k = from; k <= (int)to; k++)
        if (k != T_EXPERT_GATE && k != T_EXPERT_UP && k != T_EXPERT_DOWN && inventory_tensor(m, k, layer, &t)) {
            if (tensors)
                tensors[n] = t;
            n++;
        }
    if (layer < 0 || !m->moe[layer])
        return n;
    for (int64_t e = 0; e < m->experts && tensors; e++)
        for (int k = T_EXPERT_GATE; k <= T_EXPERT_DOWN; k++) {
            struct tensor *x = &tensors[n + 3 * e + k - T_EXPERT_GATE];
            inventory_tensor(m, k, layer, x);
            x->expert = (int)e;
        }
    return n + 3 * m->experts;
}

static int64_t list_all(const struct model *m, struct tensor *tensors)
{
    int64_t n = list(m, -1, T_EMBED, T_EMBED, tensors);
    for (int l = 0; l < m->layers; l++)
        n += list(m, l, T_INPUT_NORM, T_EXPERT_DOWN, tensors ? tensors + n : NULL);
    return n + list(m, -1, T_FINAL_NORM, T_HEAD, tensors ? tensors + n : NULL);
}

int inventory_init(struct inventory *v, const struct model *m)
{
    *v = (struct inventory){0};
    int64_t count = list_all(m, NULL);
    if (count > 1 << 24)
        return error(STATUS_USAGE, "model '%s' has %lld tensors, more than %d", m->name, (long long)count,
                     1 << 24);
    v->tensors = xcalloc((size_t)count, sizeof *v->tensors);
    v->count = (int)list_all(m, v->tensors);
    return 0;
}

void inventory_release(struct inventory *v)
{
    free(v->tensors);
    *v = (struct inventory){0};
}

static const char *pattern(const struct model *m, enum tensor_kind kind)
{
    const struct spec *s = &specs[kind];
    if (s->mixtral && m->family == MIXTRAL)
        return s->mixtral;
    return s->glm4 && m->family == GLM4_MOE ? s->glm4 : s->name;
}

char *tensor_name(const struct model *m, const struct tensor *t, char buf[static 128])
{
    const char *p = pattern(m, t->kind), *hash = strchr(p, '#');
    int n = t->layer < 0 ? 0 : snprintf(buf, 128, "model.layers.%d.", t->layer);
    if (hash)
        snprintf(buf + n, 128 - (size_t)n, "%.*s%d%s", (int)(hash - p), p, t->expert, hash + 1);
    else
        snprintf(buf + n, 128 - (size_t)n, "%s", p);
    return buf;
}

/* Matches `name` against a pattern; the number where '#' stands goes to *number. */
static bool matches(const char *name, const char *p, int *number)
{
    for (; *p; p++) {
        if (*p != '#') {
            if (*name++ != *p)
                return false;
            continue;
        }
        if (!isdigit((unsigned char)*name) || (*name == '0' && isdigit((unsigned char)name[1])))
            return false;
        for (*number = 0; isdigit((unsigned char)*name) && *number < 1 << 24; name++)
            *number = *number * 10 + (*name - '0');
    }
    return !*name;
}

/* The inventory is in rising order of this. */
static int compare(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    int after_x = x->kind >= T_FINAL_NORM, after_y = y->kind >= T_FINAL_NORM;
    if (after_x != after_y)
        return after_x - after_y;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->expert != y->expert)
        return x->expert < y->expert ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

int inventory_find(const struct inventory *v, const struct model *m, const char *name)
{
    static const char layers[] = "model.layers.";
    struct tensor key = {.layer = -1};
    const char *rest = name;
    if (strncmp(name, layers, sizeof layers - 1) == 0) {
        const char *digits = name + sizeof layers - 1;
        size_t length = strspn(digits, "0123456789");
        if (!length || length > 6 || digits[length] != '.' || (*digits == '0' && length > 1))
            return -1;
        key.layer = atoi(digits);
        rest = digits + length + 1;
    }
    for (int k = 0; k < TENSOR_KINDS; k++) {
        bool outside = k == T_EMBED || k >= T_FINAL_NORM;
        key.kind = k;
        key.expert = -1;
        if (outside != (key.layer < 0) || !matches(rest, pattern(m, k), &key.expert))
            continue;
        const struct tensor *t = bsearch(&key, v->tensors, (size_t)v->count, sizeof key, compare);
        return t ? (int)(t - v->tensors) : -1;
    }
    return -1;
}
