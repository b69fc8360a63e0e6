/* SPDX-License-Identifier: MIT */
#include "model/compare.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

/* A figure of struct model. Its key is the same in every family, or of the family's row. */
enum config_type { WHOLE, NUMBER, FLAG, TEXT };
struct config_figure {
    const char *key;
    enum figure_kind kind;
    enum config_type type;
    size_t at;
};
#define AT(kind, type, member, key)                                                                            \
    {                                                                                                          \
        key, FIGURE_##kind, type, offsetof(struct model, member)                                               \
    }
static const struct config_figure common[] = {
    /* clang-format off */
    AT(SHAPE, WHOLE, layers, "num_hidden_layers"),
    AT(SHAPE, WHOLE, hidden, "hidden_size"),
    AT(SHAPE, WHOLE, heads, "num_attention_heads"),
    AT(SHAPE, WHOLE, kv_heads, "num_key_value_heads"),
    AT(SHAPE, WHOLE, head_dim, "head_dim"),
    AT(SHAPE, WHOLE, vocab, "vocab_size"),
    AT(SHAPE, WHOLE, dense_ffn, "intermediate_size"),
    AT(SHAPE, FLAG, tied, "tie_word_embeddings"),
    AT(FORWARD, WHOLE, top_k, "num_experts_per_tok"),
    AT(FORWARD, WHOLE, rotary_dim, "partial_rotary_factor"),
    AT(FORWARD, NUMBER, rope_theta, "rope_theta"),
    AT(FORWARD, NUMBER, norm_eps, "rms_norm_eps"),
    AT(FORWARD, TEXT, plan_only, "what moe-train cannot run"),
    AT(TRAINING, NUMBER, bias_rate, "router_bias_update_rate"),
    /* clang-format on */
};
enum { COMMON = sizeof common / sizeof *common };

static void value(const struct config_figure *f, const struct model *m, char text[static 160])
{
    const char *p = (const char *)m + f->at;
    char number[32];
    switch (f->type) {
    case WHOLE:
        snprintf(text, 160, "%" PRId64, *(const int64_t *)p);
        break;
    case NUMBER:
        snprintf(text, 160, "%s", exact_num(*(const double *)p, number));
        break;
    case FLAG:
        snprintf(text, 160, "%s", *(const bool *)p ? "true" : "false");
        break;
    case TEXT:
        snprintf(text, 160, "%s", *p ? p : "nothing");
        break;
    }
}

static int compare(const struct config_figure *f, const struct model *a, const struct model *b,
                   struct model_figure *out)
{
    if (!f->key)
        return 0;
    *out = (struct model_figure){.key = f->key, .kind = f->kind};
    value(f, a, out->a);
    value(f, b, out->b);
    return 1;
}

/* What the family calls by names of its own. */
static int compare_family(const struct model *a, const struct model *b, struct model_figure *out)
{
    const struct family *f = model_family(a);
    const struct config_figure own[] = {
        /* clang-format off */
        AT(SHAPE, WHOLE, experts, f->experts[0]),
        AT(SHAPE, WHOLE, expert_ffn, f->expert_ffn.key),
        AT(SHAPE, WHOLE, shared_ffn, f->shared_ffn.key ? f->shared_ffn.key : f->shared_experts.key),
        AT(SHAPE, WHOLE, kv_rank, f->latent.kv_rank.key),
        AT(SHAPE, WHOLE, q_rank, f->latent.q_rank.key),
        AT(SHAPE, WHOLE, value_dim, f->latent.value.key),
        AT(SHAPE, WHOLE, linear.key_heads, f->linear.key_heads.key),
        AT(SHAPE, WHOLE, linear.value_heads, f->linear.value_heads.key),
        AT(SHAPE, WHOLE, linear.key_dim, f->linear.key_dim.key),
        AT(SHAPE, WHOLE, linear.value_dim, f->linear.value_dim.key),
        AT(SHAPE, WHOLE, linear.taps, f->linear.taps.key),
        AT(SHAPE, FLAG, mlp_bias, f->mlp_bias.key),
        AT(SHAPE, FLAG, qkv_bias, f->qkv_bias.key),
        AT(SHAPE, FLAG, o_bias, f->o_bias ? "the bias of o_proj" : NULL),
        AT(FORWARD, NUMBER, clip_qkv, f->clip_qkv.key),
        AT(FORWARD, WHOLE, window, f->window.tokens.key),
        AT(FORWARD, FLAG, renormalise, f->renormalise.key),
        AT(FORWARD, NUMBER, route_scale, f->route_scale.key),
        AT(FORWARD, WHOLE, groups, f->groups.key),
        AT(FORWARD, WHOLE, top_groups, f->top_groups.key),
        /* clang-format on */
    };
    int n = 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        n += compare(&own[i], a, b, &out[n]);
    if (f->qk_norm_on) {
        out[n] = (struct model_figure){.key = f->qk_norm_on, .kind = FIGURE_SHAPE};
        strcpy(out[n].a, a->qk_norm ? "true" : "false");
        strcpy(out[n++].b, b->qk_norm ? "true" : "false");
    }
    return n;
}

/* "0-3,5" of the layers that are MoE; cut where it is long. */
static void layers_text(const struct model *m, char text[static 160])
{
    size_t used = 0;
    *text = '\0';
    for (int64_t l = 0, end; l < m->layers && used < 120; l = end + 1) {
        for (end = l; end < m->layers && m->moe[end]; end++)
            ;
        if (end > l)
            used +=
                (size_t)snprintf(text + used, 160 - used, end - 1 > l ? "%s%" PRId64 "-%" PRId64 : "%s%" PRId64,
                                 used ? "," : "", l, end - 1);
    }
}

static int compare_layers(const struct model *a, const struct model *b, struct model_figure *out)
{
    const struct family *f = model_family(a);
    const char *key = f->first_dense.key ? f->first_dense.key
                      : f->sparse_step   ? f->sparse_step
                                         : "the layers that are MoE";
    *out = (struct model_figure){.key = key, .kind = FIGURE_SHAPE};
    layers_text(a, out->a);
    layers_text(b, out->b);
    return 1;
}

/* "full 0-3, window 4-4": what the layers mix tokens by; cut where it is long. */
static void mixers_text(const struct model *m, char text[static 160])
{
    size_t used = 0;
    *text = '\0';
    for (int64_t l = 0, end; l < m->layers && used < 120; l = end) {
        for (end = l; end < m->layers && m->mixer[end] == m->mixer[l]; end++)
            ;
        used += (size_t)snprintf(text + used, 160 - used, "%s%s %" PRId64 "-%" PRId64, used ? ", " : "",
                                 mixer_name[m->mixer[l]], l, end - 1);
    }
}

static int compare_mixers(const struct model *a, const struct model *b, struct model_figure *out)
{
    const struct family *f = model_family(a);
    const char *key = f->linear.types ? f->linear.types : f->window.types;
    if (!key)
        return 0;
    *out = (struct model_figure){.key = key, .kind = f->linear.types ? FIGURE_SHAPE : FIGURE_FORWARD};
    mixers_text(a, out->a);
    mixers_text(b, out->b);
    return 1;
}

int model_figures(const struct model *a, const struct model *b, struct model_figure out[static MODEL_FIGURES])
{
    if (a->family != b->family) {
        *out = (struct model_figure){.key = "model_type", .kind = FIGURE_SHAPE};
        snprintf(out->a, sizeof out->a, "%s", model_family(a)->type);
        snprintf(out->b, sizeof out->b, "%s", model_family(b)->type);
        return 1;
    }
    int n = compare_family(a, b, out);
    for (int i = 0; i < COMMON; i++)
        n += compare(&common[i], a, b, &out[n]);
    for (int i = 0; i < ROUTER_LOSSES; i++) {
        const struct config_figure f = {router_loss_style[i].config, FIGURE_TRAINING, NUMBER,
                                        offsetof(struct model, loss_coef) + (size_t)i * sizeof a->loss_coef[0]};
        n += compare(&f, a, b, &out[n]);
    }
    n += compare_mixers(a, b, &out[n]);
    return n + compare_layers(a, b, &out[n]);
}
