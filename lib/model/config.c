/* SPDX-License-Identifier: MIT */
/* Reads config.json as transformers does: its names, its defaults for what is absent, its older spellings. What
 * is understood but cannot be trained is said in plan_only; what makes no sense is an error. */
#include "model/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "model/family.h"
#include "model/size.h"

enum {
    MAX_HIDDEN = 1 << 20,
    MAX_LAYERS = 4096,
    MAX_HEADS = 1 << 16,
    MAX_Q = 1 << 24, /* heads·head_dim, and any width of an MLP */
    MAX_EXPERTS = 1 << 16,
    MAX_VOCAB = 1 << 27,
    MAX_POSITIONS = 1 << 30,
};
#define MAX_PARAMETERS ((int64_t)1 << 56) /* so that bytes and moments still count in 64 bits */

struct reader {
    struct json_doc doc;
    const json_t *root;
    struct model *m;
    const struct family_style *style;
};

#define BAD(key, ...) json_bad(&r->doc, key, __VA_ARGS__)

static int get_int(struct reader *r, const char *key, int64_t min, int64_t max, int64_t *value)
{
    return json_int(&r->doc, r->root, key, min, max, value);
}

static int need_int(struct reader *r, const char *key, int64_t max, int64_t *value)
{
    return json_need_int(&r->doc, r->root, key, 1, max, value);
}

static int get_num(struct reader *r, const char *key, double min, double max, double *value)
{
    return json_num(&r->doc, r->root, key, min, max, value);
}

static int get_flag(struct reader *r, const char *key, bool *value)
{
    return json_flag(&r->doc, r->root, key, value);
}

/* Adds a reason; those that no longer fit are left out. */
__attribute__((format(printf, 2, 3))) static void plan_only(struct reader *r, const char *fmt, ...)
{
    char reason[120];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    char *text = r->m->plan_only;
    size_t have = strlen(text);
    if (have + strlen(reason) + 3 <= sizeof r->m->plan_only)
        snprintf(text + have, sizeof r->m->plan_only - have, "%s%s", have ? "; " : "", reason);
}

static int read_family(struct reader *r)
{
    const char *type = NULL;
    TRY(json_text(&r->doc, r->root, "model_type", &type));
    if (!type)
        return BAD("model_type", "is missing");
    for (int f = 0; f < FAMILIES; f++)
        if (strcmp(type, family_type[f]) == 0) {
            r->m->family = f;
            r->style = &family_style[f];
            return 0;
        }
    char known[128] = "";
    for (int f = 0; f < FAMILIES; f++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", f ? ", " : "", family_type[f]);
    }
    return BAD("model_type", "is '%.60s', not one of %s", type, known);
}

/* The number of experts, under any of its names; when there are several they must agree. */
static int read_experts(struct reader *r)
{
    const char *first = NULL;
    for (int i = 0; i < 3 && r->style->experts[i]; i++) {
        const char *key = r->style->experts[i];
        int64_t n;
        int found = get_int(r, key, 1, MAX_EXPERTS, &n);
        TRY(found);
        if (found && first && n != r->m->experts)
            return BAD(key, "is %lld, but '%s' is %lld", (long long)n, first, (long long)r->m->experts);
        if (found) {
            r->m->experts = n;
            first = key;
        }
    }
    return first ? 0 : BAD(r->style->experts[0], "is missing");
}

static int read_sizes(struct reader *r)
{
    struct model *m = r->m;
    TRY(need_int(r, "num_hidden_layers", MAX_LAYERS, &m->layers));
    TRY(need_int(r, "hidden_size", MAX_HIDDEN, &m->hidden));
    TRY(need_int(r, "vocab_size", MAX_VOCAB, &m->vocab));
    TRY(need_int(r, "num_attention_heads", MAX_HEADS, &m->heads));
    TRY(read_experts(r));
    TRY(need_int(r, r->style->width, MAX_Q, &m->expert_ffn));
    m->dense_ffn = r->style->dense_ffn;
    TRY(get_int(r, "intermediate_size", 1, MAX_Q, &m->dense_ffn));
    m->max_positions = r->style->positions;
    TRY(get_int(r, "max_position_embeddings", 1, MAX_POSITIONS, &m->max_positions));
    m->norm_eps = r->style->eps;
    TRY(get_num(r, "rms_norm_eps", 0, 1, &m->norm_eps));
    m->init_std = 0.02;
    TRY(get_num(r, "initializer_range", 0, 1000, &m->init_std));
    return get_flag(r, "tie_word_embeddings", &m->tied);
}

static int read_dtype(struct reader *r)
{
    const char *text = NULL;
    TRY(json_text(&r->doc, r->root, "torch_dtype", &text));
    TRY(json_text(&r->doc, r->root, "dtype", &text)); /* the newer spelling wins */
    r->m->bf16 = text && (strcmp(text, "bfloat16") == 0 || strcmp(text, "torch.bfloat16") == 0);
    return 0;
}

/* Heads, and the size of one. */
static int read_heads(struct reader *r)
{
    struct model *m = r->m;
    const json_t *kv = json_object_get(r->root, "num_key_value_heads");
    m->kv_heads = r->style->kv_heads && !json_is_null(kv) ? r->style->kv_heads : m->heads;
    TRY(get_int(r, "num_key_value_heads", 1, MAX_HEADS, &m->kv_heads));
    if (m->heads % m->kv_heads)
        return BAD("num_attention_heads", "is %lld, not a multiple of num_key_value_heads %lld%s",
                   (long long)m->heads, (long long)m->kv_heads, kv ? "" : " (the family's default)");
    int given = get_int(r, "head_dim", 1, MAX_HEADS, &m->head_dim);
    TRY(given);
    if (!given) {
        if (m->hidden % m->heads)
            return BAD("hidden_size",
                       "is %lld, not a multiple of num_attention_heads %lld, and there is no head_dim",
                       (long long)m->hidden, (long long)m->heads);
        m->head_dim = m->hidden / m->heads;
    }
    if (model_q_dim(m) > MAX_Q)
        return BAD("num_attention_heads", "is %lld: with heads of %lld the queries are wider than %d",
                   (long long)m->heads, (long long)m->head_dim, MAX_Q);
    /* its q_norm is hidden_size wide whatever the heads are */
    if (m->family == OLMOE && model_q_dim(m) != m->hidden)
        return BAD("head_dim", "is %lld, but hidden_size / num_attention_heads is %g", (long long)m->head_dim,
                   (double)m->hidden / (double)m->heads);
    return 0;
}

static int read_attention(struct reader *r)
{
    struct model *m = r->m;
    TRY(read_heads(r));
    m->qkv_bias = r->style->bias_default;
    if (r->style->bias)
        TRY(get_flag(r, r->style->bias, &m->qkv_bias));
    if (m->qkv_bias && r->style->o_bias)
        plan_only(r, "%s gives o_proj a bias", r->style->bias);
    m->qk_norm = m->family == QWEN3_MOE ? QK_NORM_HEAD : m->family == OLMOE ? QK_NORM_FULL : QK_NORM_NONE;
    if (m->family == GLM4_MOE) {
        bool norm = false;
        TRY(get_flag(r, "use_qk_norm", &norm));
        m->qk_norm = norm ? QK_NORM_HEAD : QK_NORM_NONE;
    }
    if (m->family == OLMOE)
        TRY(get_num(r, "clip_qkv", 1e-30, 1e30, &m->clip_qkv));
    double dropout = 0;
    TRY(get_num(r, "attention_dropout", 0, 1, &dropout));
    if (dropout > 0)
        plan_only(r, "attention_dropout %g", dropout);
    return 0;
}

/* RoPE's own object, if there is one: rope_parameters, or the older rope_scaling, which wins when it is not
 * empty. */
static int rope_object(struct reader *r, const json_t **rope)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    *rope = NULL;
    for (int i = 0; i < 2; i++) {
        const json_t *o = json_object_get(r->root, keys[i]);
        if (o && !json_is_null(o) && !json_is_object(o))
            return BAD(keys[i], "must be an object");
        if (json_object_size(o))
            *rope = o;
    }
    return 0;
}

static int read_rope(struct reader *r)
{
    struct model *m = r->m;
    const json_t *rope;
    const char *type = "default";
    double part = m->family == GLM4_MOE ? 0.5 : 1;
    m->rope_theta = r->style->theta;
    TRY(rope_object(r, &rope));
    TRY(get_num(r, "rope_theta", 1, 1e18, &m->rope_theta));
    TRY(get_num(r, "partial_rotary_factor", 0, 1, &part));
    if (rope) {
        TRY(json_text(&r->doc, rope, "type", &type));
        TRY(json_text(&r->doc, rope, "rope_type", &type));
        TRY(json_num(&r->doc, rope, "rope_theta", 1, 1e18, &m->rope_theta));
        TRY(json_num(&r->doc, rope, "partial_rotary_factor", 0, 1, &part));
    }
    if (strcmp(type, "default") != 0)
        plan_only(r, "rope_type '%.40s'", type);
    /* the other families turn the whole head and do not look at the factor */
    m->rotary_dim = m->family == GLM4_MOE ? (int64_t)((double)m->head_dim * part) : m->head_dim;
    if (m->rotary_dim < 2 || m->rotary_dim % 2)
        return BAD(m->rotary_dim == m->head_dim ? "head_dim" : "partial_rotary_factor",
                   "makes RoPE turn %lld of %lld dimensions: that must be an even number above 0",
                   (long long)m->rotary_dim, (long long)m->head_dim);
    return 0;
}

/* Qwen2-MoE may list what each layer does: 1 when a layer attends through a window, 0 when none does, -1 on
 * error. */
static int any_sliding(struct reader *r, const json_t *types)
{
    const json_t *type;
    size_t i;
    if (!json_is_array(types))
        return BAD("layer_types", "must be an array");
    json_array_foreach(types, i, type) if (!json_is_string(type) ||
                                           strcmp(json_string_value(type), "full_attention") != 0) return 1;
    return 0;
}

/* A window that is shorter than the model's context would have to be kept to. */
static int read_window(struct reader *r)
{
    struct model *m = r->m;
    bool qwen = m->family == QWEN2_MOE || m->family == QWEN3_MOE, used = !qwen;
    const json_t *types = json_object_get(r->root, "layer_types");
    int64_t window = MAX_POSITIONS, layers = 28;
    if (m->family == GLM4_MOE)
        return 0;
    if (qwen) {
        if (!json_object_get(r->root, "sliding_window")) /* null is none, absent is the default */
            window = 4096;
        TRY(get_flag(r, "use_sliding_window", &used));
    }
    TRY(get_int(r, "sliding_window", 0, MAX_POSITIONS, &window));
    if (m->family == QWEN2_MOE && types && !json_is_null(types)) {
        int sliding = any_sliding(r, types);
        TRY(sliding);
        used = sliding;
    } else if (m->family == QWEN2_MOE) {
        TRY(get_int(r, "max_window_layers", 0, MAX_POSITIONS, &layers));
        used = used && layers > 0;
    }
    if (used && window < m->max_positions)
        plan_only(r, "sliding_window %lld is shorter than max_position_embeddings %lld", (long long)window,
                  (long long)m->max_positions);
    return 0;
}

static int read_router(struct reader *r)
{
    struct model *m = r->m;
    double jitter = 0;
    m->top_k = r->style->top_k;
    TRY(get_int(r, "num_experts_per_tok", 1, MAX_EXPERTS, &m->top_k));
    if (m->top_k > m->experts)
        return BAD("num_experts_per_tok", "is %lld, more than the %lld experts", (long long)m->top_k,
                   (long long)m->experts);
    m->renormalise = r->style->renormalise;
    if (m->family != MIXTRAL)
        TRY(get_flag(r, "norm_topk_prob", &m->renormalise));
    m->sigmoid = m->family == GLM4_MOE;
    m->groups = m->top_groups = 1;
    m->route_scale = 1;
    m->aux_coef = r->style->aux;
    TRY(get_num(r, "router_aux_loss_coef", 0, 1e6, &m->aux_coef));
    TRY(get_num(r, "router_z_loss_coef", 0, 1e6, &m->z_coef));
    TRY(get_num(r, "router_bias_update_rate", 0, 1e6, &m->bias_rate));
    if (m->bias_rate > 0 && !m->sigmoid)
        return BAD("router_bias_update_rate", "is %g, but %s has no correction bias", m->bias_rate,
                   family_type[m->family]);
    if (m->family == MIXTRAL)
        TRY(get_num(r, "router_jitter_noise", 0, 1, &jitter));
    if (jitter > 0)
        plan_only(r, "router_jitter_noise %g", jitter);
    return 0;
}

static int read_groups(struct reader *r)
{
    struct model *m = r->m;
    TRY(get_num(r, "routed_scaling_factor", 1e-9, 1e9, &m->route_scale));
    TRY(get_int(r, "n_group", 1, MAX_EXPERTS, &m->groups));
    TRY(get_int(r, "topk_group", 1, MAX_EXPERTS, &m->top_groups));
    int64_t each = m->experts / m->groups;
    if (m->experts % m->groups)
        return BAD("n_group", "is %lld, which does not divide the %lld experts", (long long)m->groups,
                   (long long)m->experts);
    if (m->groups > 1 && each < 2) /* a group's score is the sum of its best two */
        return BAD("n_group", "is %lld: a group needs 2 experts or more, and there are %lld experts",
                   (long long)m->groups, (long long)m->experts);
    if (m->top_groups > m->groups)
        return BAD("topk_group", "is %lld, more than n_group %lld", (long long)m->top_groups,
                   (long long)m->groups);
    if (m->top_k > m->top_groups * each)
        return BAD("topk_group",
                   "is %lld: so many groups have %lld experts, fewer than num_experts_per_tok %lld",
                   (long long)m->top_groups, (long long)(m->top_groups * each), (long long)m->top_k);
    return 0;
}

static int read_shared(struct reader *r)
{
    struct model *m = r->m;
    if (m->family == QWEN2_MOE) {
        m->shared_gate = true;
        m->shared_ffn = 5632;
        return get_int(r, "shared_expert_intermediate_size", 1, MAX_Q, &m->shared_ffn);
    }
    if (m->family != GLM4_MOE)
        return 0;
    int64_t count = 1;
    TRY(get_int(r, "n_shared_experts", 0, MAX_EXPERTS, &count));
    if (!mul_ok(count, m->expert_ffn, &m->shared_ffn) || m->shared_ffn > MAX_Q)
        return BAD("n_shared_experts", "is %lld: together they are wider than %d", (long long)count, MAX_Q);
    return 0;
}

static int read_dense_list(struct reader *r)
{
    const json_t *list = json_object_get(r->root, "mlp_only_layers"), *item;
    size_t i;
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return BAD("mlp_only_layers", "must be an array");
    json_array_foreach(list, i, item)
    {
        if (!json_is_integer(item))
            return BAD("mlp_only_layers", "must hold integers");
        int64_t layer = json_integer_value(item);
        if (layer < 0 || layer >= r->m->layers)
            return BAD("mlp_only_layers", "names layer %lld of %lld layers (from 0)", (long long)layer,
                       (long long)r->m->layers);
        r->m->moe[layer] = false;
    }
    return 0;
}

/* Which layers are MoE. */
static int read_layers(struct reader *r)
{
    struct model *m = r->m;
    bool qwen = m->family == QWEN2_MOE || m->family == QWEN3_MOE;
    int64_t step = 1, dense = m->family == GLM4_MOE;
    if (qwen)
        TRY(get_int(r, "decoder_sparse_step", 1, MAX_LAYERS, &step));
    if (m->family == GLM4_MOE)
        TRY(get_int(r, "first_k_dense_replace", 0, MAX_LAYERS, &dense));
    m->moe = xcalloc((size_t)m->layers, sizeof *m->moe);
    for (int64_t l = 0; l < m->layers; l++)
        m->moe[l] = l >= dense && (l + 1) % step == 0;
    if (qwen)
        TRY(read_dense_list(r));
    for (int64_t l = 0; l < m->layers; l++)
        m->moe_layers += m->moe[l];
    if (m->moe_layers == m->layers)
        m->dense_ffn = 0;
    if (!m->moe_layers)
        return BAD("num_hidden_layers", "is %lld, and none of the layers is MoE", (long long)m->layers);
    return 0;
}

static int read_rest(struct reader *r)
{
    const char *act = "silu";
    TRY(json_text(&r->doc, r->root, "hidden_act", &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        plan_only(r, "hidden_act '%.40s'", act);
    const json_t *quantised = json_object_get(r->root, "quantization_config");
    if (quantised && !json_is_null(quantised))
        plan_only(r, "quantization_config: its weights are quantised");
    return read_dtype(r);
}

static int read_config(struct reader *r)
{
    TRY(read_family(r));
    TRY(read_sizes(r));
    TRY(read_attention(r));
    TRY(read_rope(r));
    TRY(read_window(r));
    TRY(read_router(r));
    if (r->m->family == GLM4_MOE)
        TRY(read_groups(r));
    TRY(read_shared(r));
    TRY(read_layers(r));
    TRY(read_rest(r));
    int64_t n = model_parameters(r->m);
    if (n < 0 || n > MAX_PARAMETERS)
        return BAD("hidden_size", "and the other sizes make a model of more than 2^56 parameters");
    return 0;
}

/* What people call the model: the file's name, or its folder's when it is the usual config.json. */
static void name_after(struct model *m, const char *where)
{
    const char *end = where + strlen(where), *start = strrchr(where, '/');
    start = start ? start + 1 : where;
    if (strcmp(start, CONFIG_FILE) == 0 && start > where + 1) {
        end = start - 1;
        for (start = end; start > where && start[-1] != '/';)
            start--;
    } else if (end - start > 5 && strcmp(end - 5, ".json") == 0) {
        end -= 5;
    }
    snprintf(m->name, sizeof m->name, "%.*s", (int)(end - start > 63 ? 63 : end - start), start);
}

int model_parse(struct model *m, const char *text, size_t bytes, const char *where)
{
    struct reader r = {.m = m};
    *m = (struct model){0};
    if (json_open(&r.doc, text, bytes, where) < 0)
        return -1;
    r.root = r.doc.root;
    name_after(m, where);
    int rc = read_config(&r);
    json_close(&r.doc);
    if (rc < 0) {
        model_release(m);
        return -1;
    }
    m->source = xmalloc(bytes + 1);
    memcpy(m->source, text, bytes);
    m->source[bytes] = '\0';
    m->source_bytes = bytes;
    m->source_crc32 = (uint32_t)crc32_z(0, (const unsigned char *)text, bytes);
    return 0;
}
