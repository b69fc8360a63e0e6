/* SPDX-License-Identifier: MIT */
#include "model/config_attention.h"

#include <string.h>

#include "base/error.h"

/* Heads, and the size of one. */
static int read_heads(struct config *c)
{
    struct model *m = c->m;
    const json_t *kv = json_object_get(c->root, "num_key_value_heads");
    m->kv_heads = c->family->kv_heads && !json_is_null(kv) ? c->family->kv_heads : m->heads;
    TRY(config_int(c, "num_key_value_heads", 1, MAX_HEADS, &m->kv_heads));
    if (m->heads % m->kv_heads)
        return json_bad(&c->doc, "num_attention_heads", "is %lld, not a multiple of num_key_value_heads %lld%s",
                        (long long)m->heads, (long long)m->kv_heads, kv ? "" : " (the family's default)");
    int given = config_int(c, "head_dim", 1, MAX_HEADS, &m->head_dim);
    TRY(given);
    if (!given) {
        m->head_dim = m->hidden / m->heads; /* rounded down, as transformers does */
        if (!m->head_dim)
            return json_bad(&c->doc, "hidden_size",
                            "is %lld, less than num_attention_heads %lld, and there is no head_dim",
                            (long long)m->hidden, (long long)m->heads);
    }
    if (model_q_dim(m) > MAX_WIDTH)
        return json_bad(&c->doc, "num_attention_heads",
                        "is %lld: with heads of %lld the queries are wider than %d", (long long)m->heads,
                        (long long)m->head_dim, MAX_WIDTH);
    /* transformers makes that norm hidden_size wide whatever the heads are */
    if (c->family->qk_norm == QK_NORM_FULL && model_q_dim(m) != m->hidden)
        return json_bad(&c->doc, "head_dim", "is %lld, but hidden_size / num_attention_heads is %g",
                        (long long)m->head_dim, (double)m->hidden / (double)m->heads);
    return 0;
}

static int read_projections(struct config *c)
{
    struct model *m = c->m;
    const struct family *f = c->family;
    bool norm = !f->qk_norm_on;
    TRY(config_flag_of(c, &f->qkv_bias, &m->qkv_bias));
    m->o_bias = m->qkv_bias && f->o_bias;
    if (f->qk_norm_on)
        TRY(config_flag(c, f->qk_norm_on, &norm));
    m->qk_norm = norm ? f->qk_norm : QK_NORM_NONE;
    TRY(config_num_of(c, &f->clip_qkv, 1e-30, 1e30, &m->clip_qkv));
    double dropout = 0;
    TRY(config_num(c, "attention_dropout", 0, 1, &dropout));
    if (dropout > 0)
        config_plan_only(c, "attention_dropout %g", dropout);
    return 0;
}

/* What Python takes for false: null, false, 0, "", [] and {}. */
static bool is_falsy(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0) ||
           (json_is_string(v) && !json_string_length(v)) || (json_is_array(v) && !json_array_size(v)) ||
           (json_is_object(v) && !json_object_size(v));
}

/* RoPE's own object, if there is one: rope_parameters, or the older rope_scaling, which wins when it is
 * anything (people write false and 0 for "none", and transformers lets them, but not in rope_parameters). */
static int rope_object(struct config *c, const json_t **rope)
{
    const char *key = is_falsy(json_object_get(c->root, "rope_scaling")) ? "rope_parameters" : "rope_scaling";
    json_t *o = json_object_get(c->root, key), *value;
    const char *name;
    *rope = NULL;
    if (!o || json_is_null(o))
        return 0;
    if (!json_is_object(o))
        return json_bad(&c->doc, key, "must be an object");
    json_object_foreach(o, name, value)
    {
        if (json_is_object(value))
            return json_bad(&c->doc, name, "is an object within %s: %s has one RoPE for all layers", key,
                            c->family->type);
    }
    *rope = o;
    return 0;
}

/* The part of a head that RoPE turns. */
static int read_rotary(struct config *c, double part)
{
    struct model *m = c->m;
    m->rotary_dim = c->family->rotary_part > 0 ? (int64_t)((double)m->head_dim * part) : m->head_dim;
    if (m->rotary_dim == m->head_dim && m->rotary_dim % 2)
        return json_bad(&c->doc, "head_dim", "makes RoPE turn %lld dimensions: that must be an even number",
                        (long long)m->rotary_dim);
    if (m->rotary_dim % 2 || !m->rotary_dim) {
        config_plan_only(c, "RoPE turns %lld dimensions of a head", (long long)m->rotary_dim);
        m->rotary_dim +=
            m->rotary_dim % 2; /* the last turns with the next, by the frequencies of an odd number */
    }
    return 0;
}

static int read_rope(struct config *c)
{
    struct model *m = c->m;
    const json_t *rope;
    const char *type = "default";
    double part = c->family->rotary_part;
    m->rope_theta = c->family->rope_theta;
    TRY(rope_object(c, &rope));
    TRY(config_num(c, "rope_theta", 1, 1e18, &m->rope_theta));
    if (json_is_null(json_object_get(c->root, "partial_rotary_factor")))
        part = 1; /* not the same as absent */
    TRY(config_num(c, "partial_rotary_factor", 0, 1, &part));
    if (rope) {
        TRY(json_text(&c->doc, rope, "type", &type));
        TRY(json_text(&c->doc, rope, "rope_type", &type));
        TRY(json_num(&c->doc, rope, "rope_theta", 1, 1e18, &m->rope_theta));
        TRY(json_num(&c->doc, rope, "partial_rotary_factor", 0, 1, &part));
    }
    if (strcmp(type, "default") != 0)
        config_plan_only(c, "rope_type '%.40s'", type);
    return read_rotary(c, part);
}

/* Of a list of what each layer does: 1 when one attends through a window, 0 when none does, -1 on error. */
static int any_window(struct config *c, const char *key, const json_t *types)
{
    const json_t *type;
    size_t i;
    if (!json_is_array(types))
        return json_bad(&c->doc, key, "must be an array");
    if ((int64_t)json_array_size(types) != c->m->layers)
        return json_bad(&c->doc, key, "has %lld words for %lld layers", (long long)json_array_size(types),
                        (long long)c->m->layers);
    json_array_foreach(types, i, type)
    {
        if (!json_is_string(type) || strcmp(json_string_value(type), "full_attention") != 0)
            return 1;
    }
    return 0;
}

/* How far back a token sees. Whether that is less than all is a matter of the plan's sequences, too. */
static int read_window(struct config *c)
{
    const struct window_keys *w = &c->family->window;
    bool used = !w->on;
    int64_t tokens = -1; /* all */
    if (!w->tokens.key)
        return 0;
    if (w->tokens.absent &&
        !json_object_get(c->root, w->tokens.key)) /* null is no window, absent the default */
        tokens = w->tokens.absent;
    if (w->on)
        TRY(config_flag(c, w->on, &used));
    TRY(config_int(c, w->tokens.key, 0, MAX_POSITIONS, &tokens));
    const json_t *types = config_member(c, w->types);
    if (types) {
        int any = any_window(c, w->types, types);
        TRY(any);
        if (any && !used)
            tokens = 0; /* what transformers makes of a window that is switched off and asked for */
        used = any;
    } else if (w->layers.key) {
        int64_t layers;
        TRY(config_int_of(c, &w->layers, 0, MAX_POSITIONS, &layers));
        used = used && layers > 0;
    }
    if (used && tokens == 0)
        config_plan_only(c, "%s 0 lets no token attend to any", w->tokens.key);
    c->m->window = used && tokens > 0 ? tokens : 0;
    return 0;
}

int config_attention(struct config *c)
{
    TRY(read_heads(c));
    TRY(read_projections(c));
    TRY(read_rope(c));
    return read_window(c);
}
