/* SPDX-License-Identifier: MIT */
#include "model/inventory.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/tensor_names.h"

/* A length in terms of the model. */
enum length {
    NONE,
    ONE,
    HIDDEN,
    VOCAB,
    Q_DIM, /* with the output gate beside it, where there is one */
    KV_DIM,
    O_DIM,
    HEADS,
    Q_NORM,
    K_NORM,
    Q_RANK,
    KV_RANK,
    KV_A_DIM,
    KV_B_DIM,
    LINEAR_HEADS,
    LINEAR_CHANNELS,
    LINEAR_TAPS,
    LINEAR_QKVZ,
    LINEAR_BA,
    LINEAR_HEAD,
    LINEAR_DIM,
    DENSE_F,
    SHARED_F,
    EXPERT_F,
    EXPERT_2F,
    EXPERTS,
};

/* Where a tensor stands, and which models have it there. */
enum stand {
    FIRST,     /* before the layers */
    LAST,      /* after them */
    HEAD,      /* after them, unless tied */
    EACH,      /* every layer */
    ATTENDING, /* layers with attention */
    PLAIN,     /* those whose k and v are projections of the input */
    PLAIN_Q,   /* those whose q is */
    BIASED,    /* those with biases of q, k and v */
    O_BIASED,  /* with a bias of o */
    NORMED,    /* with norms of q and k */
    SUNK,      /* with sinks */
    LATENT,    /* with a latent of k and v */
    LATENT_B,  /* … that has a bias */
    LATENT_Q,  /* with a latent of q */
    LATENT_QB, /* … that has a bias */
    LINEAR,    /* layers with linear attention */
    DENSE,     /* layers that are not MoE */
    DENSE_B,   /* … whose MLP has biases */
    MOE,       /* layers that are */
    CORRECTED, /* those with a correction bias */
    ROUTER_B,  /* those with a bias of the router */
    SHARED,    /* those with a shared expert */
    SHARED_B,  /* … that has biases */
    SHARED_OB, /* … and of its output, which it has also when it is 0 wide */
    SWITCHED,  /* those whose shared expert has a gate, which it has also when it is 0 wide */
    EXPERT,    /* MoE layers, once for each expert */
    STACKED,   /* MoE layers whose experts lie in one tensor */
};

enum {
    NORM = 1,      /* starts at 1 */
    ZERO = 2,      /* starts at 0 */
    BUFFER = 4,    /* not trained */
    MATRIX = 8,    /* tokens are multiplied by it */
    CHANNELS = 16, /* a convolution: three dimensions */
    CENTRED = 32,  /* a norm whose weight is added to 1 in some families: it starts at 0 there */
};

/* Their names are in tensor_names.c. */
static const struct tensor_form {
    enum stand stand;
    enum length rows, cols; /* cols NONE: a vector */
    enum tensor_cut cut;
    int flags;
} shapes[TENSOR_KINDS] = {
    [T_EMBED] = {.stand = FIRST, .rows = VOCAB, .cols = HIDDEN, .cut = CUT_VOCAB},

    [T_INPUT_NORM] = {.stand = EACH, .rows = HIDDEN, .flags = NORM | CENTRED},
    [T_Q] = {.stand = PLAIN_Q, .rows = Q_DIM, .cols = HIDDEN, .cut = CUT_HEADS, .flags = MATRIX},
    [T_K] = {.stand = PLAIN, .rows = KV_DIM, .cols = HIDDEN, .cut = CUT_KV, .flags = MATRIX},
    [T_V] = {.stand = PLAIN, .rows = KV_DIM, .cols = HIDDEN, .cut = CUT_KV, .flags = MATRIX},
    [T_Q_BIAS] = {.stand = BIASED, .rows = Q_DIM, .cut = CUT_HEADS, .flags = ZERO},
    [T_K_BIAS] = {.stand = BIASED, .rows = KV_DIM, .cut = CUT_KV, .flags = ZERO},
    [T_V_BIAS] = {.stand = BIASED, .rows = KV_DIM, .cut = CUT_KV, .flags = ZERO},
    [T_Q_NORM] = {.stand = NORMED, .rows = Q_NORM, .cut = CUT_HEADS, .flags = NORM | CENTRED},
    [T_K_NORM] = {.stand = NORMED, .rows = K_NORM, .cut = CUT_KV, .flags = NORM | CENTRED},
    [T_O] = {.stand = ATTENDING, .rows = HIDDEN, .cols = O_DIM, .cut = CUT_COLS, .flags = MATRIX},
    [T_O_BIAS] = {.stand = O_BIASED, .rows = HIDDEN, .flags = ZERO},
    [T_SINKS] = {.stand = SUNK, .rows = HEADS, .cut = CUT_HEADS},
    [T_Q_A] = {.stand = LATENT_Q, .rows = Q_RANK, .cols = HIDDEN, .flags = MATRIX},
    [T_Q_A_BIAS] = {.stand = LATENT_QB, .rows = Q_RANK, .flags = ZERO},
    [T_Q_A_NORM] = {.stand = LATENT_Q, .rows = Q_RANK, .flags = NORM},
    [T_Q_B] = {.stand = LATENT_Q, .rows = Q_DIM, .cols = Q_RANK, .cut = CUT_HEADS, .flags = MATRIX},
    [T_KV_A] = {.stand = LATENT, .rows = KV_A_DIM, .cols = HIDDEN, .flags = MATRIX},
    [T_KV_A_BIAS] = {.stand = LATENT_B, .rows = KV_A_DIM, .flags = ZERO},
    [T_KV_A_NORM] = {.stand = LATENT, .rows = KV_RANK, .flags = NORM},
    [T_KV_B] = {.stand = LATENT, .rows = KV_B_DIM, .cols = KV_RANK, .cut = CUT_HEADS, .flags = MATRIX},
    [T_LINEAR_DT_BIAS] = {.stand = LINEAR, .rows = LINEAR_HEADS, .cut = CUT_ROWS, .flags = NORM},
    [T_LINEAR_A_LOG] = {.stand = LINEAR, .rows = LINEAR_HEADS, .cut = CUT_ROWS},
    [T_LINEAR_CONV] =
        {.stand = LINEAR, .rows = LINEAR_CHANNELS, .cols = LINEAR_TAPS, .cut = CUT_ROWS, .flags = CHANNELS},
    [T_LINEAR_QKVZ] = {.stand = LINEAR, .rows = LINEAR_QKVZ, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_LINEAR_BA] = {.stand = LINEAR, .rows = LINEAR_BA, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_LINEAR_NORM] = {.stand = LINEAR, .rows = LINEAR_HEAD, .flags = NORM},
    [T_LINEAR_O] = {.stand = LINEAR, .rows = HIDDEN, .cols = LINEAR_DIM, .cut = CUT_COLS, .flags = MATRIX},
    [T_POST_NORM] = {.stand = EACH, .rows = HIDDEN, .flags = NORM | CENTRED},

    [T_GATE] = {.stand = DENSE, .rows = DENSE_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_UP] = {.stand = DENSE, .rows = DENSE_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_DOWN] = {.stand = DENSE, .rows = HIDDEN, .cols = DENSE_F, .cut = CUT_COLS, .flags = MATRIX},

    [T_GATE_BIAS] = {.stand = DENSE_B, .rows = DENSE_F, .cut = CUT_ROWS, .flags = ZERO},
    [T_UP_BIAS] = {.stand = DENSE_B, .rows = DENSE_F, .cut = CUT_ROWS, .flags = ZERO},
    [T_DOWN_BIAS] = {.stand = DENSE_B, .rows = HIDDEN, .flags = ZERO},

    [T_ROUTER] = {.stand = MOE, .rows = EXPERTS, .cols = HIDDEN},
    [T_ROUTER_BIAS] = {.stand = CORRECTED, .rows = EXPERTS, .flags = ZERO | BUFFER},
    [T_ROUTER_TRAINED_BIAS] = {.stand = ROUTER_B, .rows = EXPERTS},
    [T_SHARED_GATE] = {.stand = SHARED, .rows = SHARED_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_SHARED_UP] = {.stand = SHARED, .rows = SHARED_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_SHARED_DOWN] = {.stand = SHARED, .rows = HIDDEN, .cols = SHARED_F, .cut = CUT_COLS, .flags = MATRIX},
    [T_SHARED_SWITCH] = {.stand = SWITCHED, .rows = ONE, .cols = HIDDEN},
    [T_SHARED_GATE_BIAS] = {.stand = SHARED_B, .rows = SHARED_F, .cut = CUT_ROWS, .flags = ZERO},
    [T_SHARED_UP_BIAS] = {.stand = SHARED_B, .rows = SHARED_F, .cut = CUT_ROWS, .flags = ZERO},
    [T_SHARED_DOWN_BIAS] = {.stand = SHARED_OB, .rows = HIDDEN, .flags = ZERO},
    [T_STACK_GATE_UP] = {.stand = STACKED, .rows = HIDDEN, .cols = EXPERT_2F, .cut = CUT_COLS, .flags = MATRIX},
    [T_STACK_GATE_UP_BIAS] = {.stand = STACKED, .rows = EXPERT_2F, .cut = CUT_ROWS, .flags = ZERO},
    [T_STACK_DOWN] = {.stand = STACKED, .rows = EXPERT_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_STACK_DOWN_BIAS] = {.stand = STACKED, .rows = HIDDEN, .flags = ZERO},
    [T_EXPERT_GATE] = {.stand = EXPERT, .rows = EXPERT_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_EXPERT_UP] = {.stand = EXPERT, .rows = EXPERT_F, .cols = HIDDEN, .cut = CUT_ROWS, .flags = MATRIX},
    [T_EXPERT_DOWN] = {.stand = EXPERT, .rows = HIDDEN, .cols = EXPERT_F, .cut = CUT_COLS, .flags = MATRIX},

    [T_FINAL_NORM] = {.stand = LAST, .rows = HIDDEN, .flags = NORM | CENTRED},
    [T_HEAD] = {.stand = HEAD, .rows = VOCAB, .cols = HIDDEN, .cut = CUT_VOCAB, .flags = MATRIX},
};

static int64_t length_of(const struct model *m, enum length length)
{
    switch (length) {
    case HIDDEN:
        return m->hidden;
    case VOCAB:
        return m->vocab;
    case Q_DIM:
        return model_q_dim(m) * (model_family(m)->q_gate ? 2 : 1);
    case KV_DIM:
        return model_kv_dim(m);
    case O_DIM:
        return m->heads * m->value_dim;
    case HEADS:
        return m->heads;
    case Q_RANK:
        return m->q_rank;
    case KV_RANK:
        return m->kv_rank;
    case KV_A_DIM:
        return m->kv_rank + m->rotary_dim;
    case KV_B_DIM:
        return m->heads * (m->head_dim - m->rotary_dim + m->value_dim);
    case LINEAR_HEADS:
        return m->linear.value_heads;
    case LINEAR_CHANNELS:
        return 2 * linear_keys(m) + linear_values(m);
    case LINEAR_TAPS:
        return m->linear.taps;
    case LINEAR_QKVZ:
        return 2 * linear_keys(m) + 2 * linear_values(m);
    case LINEAR_BA:
        return 2 * m->linear.value_heads;
    case LINEAR_HEAD:
        return m->linear.value_dim;
    case LINEAR_DIM:
        return linear_values(m);
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
    case EXPERT_2F:
        return 2 * m->expert_ffn;
    case EXPERTS:
        return m->experts;
    default:
        return 1;
    }
}

static bool stands_in(const struct model *m, enum stand stand, int layer)
{
    if (layer < 0)
        return stand == FIRST || stand == LAST || (stand == HEAD && !m->tied);
    const struct family *f = model_family(m);
    bool moe = m->moe[layer], attends = m->mixer[layer] != MIX_LINEAR, latent = attends && m->kv_rank;
    switch (stand) {
    case EACH:
        return true;
    case ATTENDING:
        return attends;
    case PLAIN:
        return attends && !latent;
    case PLAIN_Q:
        return attends && !m->q_rank;
    case BIASED:
        return attends && !latent && m->qkv_bias;
    case O_BIASED:
        return attends && m->o_bias;
    case NORMED:
        return attends && m->qk_norm != QK_NORM_NONE;
    case SUNK:
        return attends && f->sinks;
    case LATENT:
        return latent;
    case LATENT_B:
        return latent && m->qkv_bias;
    case LATENT_Q:
        return latent && m->q_rank;
    case LATENT_QB:
        return latent && m->q_rank && m->qkv_bias;
    case LINEAR:
        return !attends;
    case DENSE:
        return !moe;
    case DENSE_B:
        return !moe && m->mlp_bias;
    case MOE:
        return moe;
    case EXPERT:
        return moe && !f->stacked;
    case STACKED:
        return moe && f->stacked;
    case ROUTER_B:
        return moe && f->router_bias;
    case CORRECTED:
        return moe && m->sigmoid;
    case SHARED:
        return moe && m->shared_ffn;
    case SHARED_B:
        return moe && m->shared_ffn && m->mlp_bias;
    case SHARED_OB:
        return moe && f->shared_experts.key && m->mlp_bias;
    case SWITCHED:
        return moe && m->shared_gate;
    default:
        return false;
    }
}

bool tensor_multiplies(enum tensor_kind kind)
{
    return shapes[kind].flags & MATRIX;
}

bool inventory_tensor(const struct model *m, enum tensor_kind kind, int layer, struct tensor *t)
{
    const struct tensor_form *s = &shapes[kind];
    if (!stands_in(m, s->stand, layer))
        return false;
    *t = (struct tensor){
        .kind = kind,
        .layer = layer,
        .expert = s->stand == EXPERT ? 0 : -1,
        .stack = s->stand == STACKED ? m->experts : 0,
        .dims = (s->stand == STACKED) + 1 + (s->cols != NONE) + ((s->flags & CHANNELS) != 0),
        .rows = length_of(m, s->rows),
        .cols = length_of(m, s->cols),
        .cut = s->cut,
        .trained = !(s->flags & BUFFER),
        .ones = s->flags & NORM,
        .zeros = s->flags & ZERO,
    };
    t->decayed = t->dims > 1;
    if (model_family(m)->centred_norms && (s->flags & CENTRED)) {
        t->ones = false;
        t->zeros = true;
    }
    /* a norm over one head is the same for every head: each rank has it whole */
    if (s->stand == NORMED && m->qk_norm == QK_NORM_HEAD)
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
    if (layer < 0 || !m->moe[layer] || model_family(m)->stacked)
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

static const char *template(const struct model *m, enum tensor_kind kind)
{
    return tensor_template(model_family(m)->names, kind);
}

char *tensor_name(const struct model *m, const struct tensor *t, char buf[static 128])
{
    const char *p = template(m, t->kind), *hash = strchr(p, '#');
    int n = t->layer < 0 ? 0 : snprintf(buf, 128, "model.layers.%d.", t->layer);
    if (hash)
        snprintf(buf + n, 128 - (size_t)n, "%.*s%d%s", (int)(hash - p), p, t->expert, hash + 1);
    else
        snprintf(buf + n, 128 - (size_t)n, "%s", p);
    return buf;
}

char *tensor_shape_text(const struct tensor *t, char buf[static 128])
{
    int64_t shape[3];
    int dims = tensor_shape(t, shape), used = 0;
    for (int i = 0; i < dims; i++)
        used += snprintf(buf + used, 128 - (size_t)used, "%c%" PRId64, i ? ',' : '[', shape[i]);
    snprintf(buf + used, 128 - (size_t)used, "]");
    return buf;
}

/* Matches `name` against a template; the number where '#' stands goes to *number. */
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
        if (outside != (key.layer < 0) || !matches(rest, template(m, k), &key.expert))
            continue;
        const struct tensor *t = bsearch(&key, v->tensors, (size_t)v->count, sizeof key, compare);
        return t ? (int)(t - v->tensors) : -1;
    }
    return -1;
}
