/* SPDX-License-Identifier: MIT */
#include "model/config_attention.h"

#include <string.h>

#include "base/error.h"
#include "base/num.h"

/* The widths of multi-head latent attention. What config.json calls head_dim means nothing there. */
static int read_latent(struct config *c)
{
    struct model *m = c->m;
    const struct latent_keys *k = &c->family->latent;
    int64_t nope, q_rank = 0;
    if (m->kv_heads != m->heads)
        return json_bad(&c->doc, "num_key_value_heads", "is %lld, not num_attention_heads %lld",
                        (long long)m->kv_heads, (long long)m->heads);
    TRY(config_int_of(c, &k->kv_rank, 1, MAX_WIDTH, &m->kv_rank));
    if (!json_object_get(c->root, k->q_rank.key))
        q_rank = k->q_rank.absent;
    TRY(config_int(c, k->q_rank.key, 1, MAX_WIDTH, &q_rank));
    TRY(config_int_of(c, &k->nope, 1, MAX_HEADS, &nope));
    TRY(config_int_of(c, &k->rope, 1, MAX_HEADS, &m->rotary_dim));
    TRY(config_int_of(c, &k->value, 1, MAX_HEADS, &m->value_dim));
    m->q_rank = q_rank;
    m->head_dim = nope + m->rotary_dim;
    if (m->rotary_dim % 2)
        return json_bad(&c->doc, k->rope.key, "is %lld: RoPE turns an even number of dimensions",
                        (long long)m->rotary_dim);
    if (m->heads * max64(m->head_dim, m->value_dim) > MAX_WIDTH)
        return json_bad(&c->doc, "num_attention_heads", "is %lld: with heads of %lld they are wider than %d",
                        (long long)m->heads, (long long)max64(m->head_dim, m->value_dim), MAX_WIDTH);
    config_plan_only(c, "multi-head latent attention");
    return 0;
}

/* Heads, and the size of one. */
static int read_heads(struct config *c)
{
    struct model *m = c->m;
    const json_t *kv = json_object_get(c->root, "num_key_value_heads");
    const struct family *f = c->family;
    m->kv_heads = f->kv_heads && !json_is_null(kv) ? f->kv_heads : m->heads;
    TRY(config_int(c, "num_key_value_heads", 1, MAX_HEADS, &m->kv_heads));
    if (m->heads % m->kv_heads)
        return json_bad(&c->doc, "num_attention_heads", "is %lld, not a multiple of num_key_value_heads %lld%s",
                        (long long)m->heads, (long long)m->kv_heads, kv ? "" : " (the family's default)");
    if (f->whole_heads && m->hidden % m->heads)
        return json_bad(&c->doc, "hidden_size", "is %lld, not a multiple of num_attention_heads %lld",
                        (long long)m->hidden, (long long)m->heads);
    if (f->latent.kv_rank.key)
        return read_latent(c);
    int given = config_int(c, "head_dim", 1, MAX_HEADS, &m->head_dim);
    TRY(given);
    if (!given && f->head_dim && !json_object_get(c->root, "head_dim")) {
        m->head_dim = f->head_dim;
    } else if (!given) {
        m->head_dim = m->hidden / m->heads; /* rounded down, as transformers does */
        if (!m->head_dim)
            return json_bad(&c->doc, "hidden_size",
                            "is %lld, less than num_attention_heads %lld, and there is no head_dim",
                            (long long)m->hidden, (long long)m->heads);
    }
    m->value_dim = m->head_dim;
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
    TRY(config_flag_of(c, &f->mlp_bias, &m->mlp_bias));
    if (m->mlp_bias)
        config_plan_only(c, "%s", f->mlp_bias.key);
    if (f->sinks)
        config_plan_only(c, "attention sinks");
    if (f->q_gate)
        config_plan_only(c, "attention with an output gate");
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
    if (m->kv_rank) /* read_latent() has it */
        return 0;
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
    const char *type = c->family->yarn ? "yarn" : "default";
    double part = c->family->rotary_part;
    m->rope_theta = c->family->rope_theta;
    TRY(rope_object(c, &rope));
    TRY(config_num(c, "rope_theta", 1, 1e18, &m->rope_theta));
    if (json_is_null(json_object_get(c->root, "partial_rotary_factor")))
        part = 1; /* not the same as absent */
    TRY(config_num(c, "partial_rotary_factor", 0, 1, &part));
    if (rope) {
        type = "default";
        TRY(json_text(&c->doc, rope, "type", &type));
        TRY(json_text(&c->doc, rope, "rope_type", &type));
        TRY(json_num(&c->doc, rope, "rope_theta", 1, 1e18, &m->rope_theta));
        TRY(json_num(&c->doc, rope, "partial_rotary_factor", 0, 1, &part));
    }
    if (strcmp(type, "default") != 0)
        config_plan_only(c, "rope_type '%.40s'", type);
    return read_rotary(c, part);
}

/* The list of what each layer does: those that do not attend to all mix by `other`. 1 when one does not, 0 when
 * all do, -1 on error. */
static int read_types(struct config *c, const char *key, const json_t *types, enum mixer other)
{
    const json_t *type;
    size_t i;
    int any = 0;
    if (!json_is_array(types))
        return json_bad(&c->doc, key, "must be an array");
    if ((int64_t)json_array_size(types) != c->m->layers)
        return json_bad(&c->doc, key, "has %lld words for %lld layers", (long long)json_array_size(types),
                        (long long)c->m->layers);
    json_array_foreach(types, i, type)
    {
        if (json_is_string(type) && strcmp(json_string_value(type), "full_attention") == 0)
            continue;
        c->m->mixer[i] = (unsigned char)other;
        any = 1;
    }
    return any;
}

/* Where no list says which layers have the window. */
static int spread_window(struct config *c)
{
    const struct window_keys *w = &c->family->window;
    int64_t edge = 0;
    TRY(config_int_of(c, &w->layers, 0, MAX_POSITIONS, &edge));
    for (int64_t l = 0; l < c->m->layers; l++) {
        const bool windowed[] = {
            [WINDOW_ALL] = true,
            [WINDOW_EVEN] = l % 2 == 0,
            [WINDOW_EVEN_BELOW] = l % 2 == 0 && l < edge,
            [WINDOW_FROM] = l >= edge,
        };
        if (windowed[w->which])
            c->m->mixer[l] = MIX_WINDOW;
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
        int any = read_types(c, w->types, types, MIX_WINDOW);
        TRY(any);
        if (any && !used)
            tokens = 0; /* what transformers makes of a window that is switched off and asked for */
    } else if (used) {
        TRY(spread_window(c));
    }
    used = memchr(c->m->mixer, MIX_WINDOW, (size_t)c->m->layers);
    if (used && tokens == 0)
        config_plan_only(c, "%s 0 lets no token attend to any", w->tokens.key);
    c->m->window = used && tokens > 0 ? tokens : 0;
    if (!c->m->window)
        memset(c->m->mixer, MIX_FULL, (size_t)c->m->layers);
    return 0;
}

static int read_linear(struct config *c)
{
    const struct linear_keys *k = &c->family->linear;
    struct linear *x = &c->m->linear;
    int64_t interval;
    if (!k->types)
        return 0;
    TRY(config_int_of(c, &k->key_heads, 1, MAX_HEADS, &x->key_heads));
    TRY(config_int_of(c, &k->value_heads, 1, MAX_HEADS, &x->value_heads));
    TRY(config_int_of(c, &k->key_dim, 1, MAX_HEADS, &x->key_dim));
    TRY(config_int_of(c, &k->value_dim, 1, MAX_HEADS, &x->value_dim));
    TRY(config_int_of(c, &k->taps, 1, MAX_HEADS, &x->taps));
    if (x->value_heads % x->key_heads)
        return json_bad(&c->doc, k->value_heads.key, "is %lld, not a multiple of %s %lld",
                        (long long)x->value_heads, k->key_heads.key, (long long)x->key_heads);
    if (max64(linear_keys(c->m), linear_values(c->m)) > MAX_WIDTH)
        return json_bad(&c->doc, k->value_heads.key, "and the heads' widths are more than %d", MAX_WIDTH);
    const json_t *types = config_member(c, k->types);
    TRY(config_int_of(c, &k->interval, 1, MAX_LAYERS, &interval));
    if (types)
        TRY(read_types(c, k->types, types, MIX_LINEAR));
    for (int64_t l = 0; l < c->m->layers && !types; l++)
        c->m->mixer[l] = (l + 1) % interval ? MIX_LINEAR : MIX_FULL;
    if (memchr(c->m->mixer, MIX_LINEAR, (size_t)c->m->layers))
        config_plan_only(c, "linear attention");
    return 0;
}

int config_attention(struct config *c)
{
    TRY(read_heads(c));
    TRY(read_projections(c));
    TRY(read_rope(c));
    TRY(read_window(c));
    return read_linear(c);
}
