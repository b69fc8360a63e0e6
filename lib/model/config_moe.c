/* SPDX-License-Identifier: MIT */
#include "model/config_moe.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"

int config_experts(struct config *c)
{
    struct model *m = c->m;
    const char *const *keys = c->family->experts, *first = NULL;
    if (!keys[0])
        return 0;
    for (int i = 0; keys[i]; i++) {
        int64_t n;
        int found = config_int(c, keys[i], 1, MAX_EXPERTS, &n);
        TRY(found);
        if (found && first && n != m->experts) /* several must agree */
            return json_bad(&c->doc, keys[i], "is %lld, but '%s' is %lld", (long long)n, first,
                            (long long)m->experts);
        if (found) {
            m->experts = n;
            first = keys[i];
        }
    }
    if (!first)
        TRY(config_size(c, keys[0], c->family->expert_count, MAX_EXPERTS, &m->experts));
    const struct int_key *ffn = &c->family->expert_ffn;
    return config_size(c, ffn->key, ffn->absent, MAX_WIDTH, &m->expert_ffn);
}

/* The losses that keep the load even. */
static int read_losses(struct config *c)
{
    struct model *m = c->m;
    m->loss_coef[LOSS_AUX] = c->family->aux_coef; /* the others are ours, and off */
    for (int i = 0; i < ROUTER_LOSSES; i++)
        TRY(config_num(c, router_loss_style[i].config, 0, 1e6, &m->loss_coef[i]));
    TRY(config_num(c, "router_bias_update_rate", 0, 1e6, &m->bias_rate));
    if (m->bias_rate > 0 && !m->sigmoid)
        return json_bad(&c->doc, "router_bias_update_rate", "is %g, but %s has no correction bias",
                        m->bias_rate, c->family->type);
    return 0;
}

/* Whether a router that has groups goes by them. */
static int groups_count(struct config *c, bool *used)
{
    const char *key = c->family->grouped_by, *method = "greedy";
    TRY(json_text(&c->doc, c->root, key, &method));
    *used = strcmp(method, "group_limited_greedy") == 0;
    if (!*used && strcmp(method, "greedy") != 0)
        return json_bad(&c->doc, key, "is '%.40s', not \"greedy\" or \"group_limited_greedy\"", method);
    if (*used)
        config_plan_only(c, "%s '%s'", key, method);
    return 0;
}

/* Experts in groups, of which the best few are open to a token. */
static int read_groups(struct config *c)
{
    struct model *m = c->m;
    const char *groups = c->family->groups.key, *top = c->family->top_groups.key;
    m->groups = m->top_groups = 1;
    bool used = groups;
    if (c->family->grouped_by)
        TRY(groups_count(c, &used));
    if (!used)
        return 0;
    TRY(config_int_of(c, &c->family->groups, 1, MAX_EXPERTS, &m->groups));
    TRY(config_int_of(c, &c->family->top_groups, 1, MAX_EXPERTS, &m->top_groups));
    int64_t each = m->experts / m->groups;
    if (m->experts % m->groups)
        return json_bad(&c->doc, groups, "is %lld, which does not divide the %lld experts",
                        (long long)m->groups, (long long)m->experts);
    if (m->groups > 1 && each < 2 && !c->family->grouped_by) /* a group's score is the sum of its best two */
        return json_bad(&c->doc, groups, "is %lld: a group needs 2 experts or more, and there are %lld experts",
                        (long long)m->groups, (long long)m->experts);
    if (m->top_groups > m->groups)
        return json_bad(&c->doc, top, "is %lld, more than %s %lld", (long long)m->top_groups, groups,
                        (long long)m->groups);
    if (m->top_k > m->top_groups * each)
        return json_bad(&c->doc, top,
                        "is %lld: so many groups have %lld experts, fewer than num_experts_per_tok %lld",
                        (long long)m->top_groups, (long long)(m->top_groups * each), (long long)m->top_k);
    return 0;
}

static int read_router(struct config *c)
{
    struct model *m = c->m;
    const struct family *f = c->family;
    m->top_k = llabs(f->top_k);
    int given = config_int(c, "num_experts_per_tok", 1, MAX_EXPERTS, &m->top_k);
    TRY(given);
    if (!given && f->top_k < 0)
        config_assume(c, "num_experts_per_tok", m->top_k);
    if (m->top_k > m->experts)
        return json_bad(&c->doc, "num_experts_per_tok", "is %lld, more than the %lld experts",
                        (long long)m->top_k, (long long)m->experts);
    m->sigmoid = f->sigmoid;
    TRY(config_flag_of(c, &f->renormalise, &m->renormalise));
    if (f->renormalise.key && json_is_null(json_object_get(c->root, f->renormalise.key)))
        m->renormalise = false; /* null is not absent */
    TRY(read_losses(c));
    for (int i = 0; f->untrained[i]; i++) {
        double value = 0;
        TRY(config_num(c, f->untrained[i], 0, 1, &value));
        if (value > 0)
            config_plan_only(c, "%s %g", f->untrained[i], value);
    }
    m->route_scale = 1;
    if (f->route_scale.key)
        TRY(config_num_of(c, &f->route_scale, 1e-9, 1e9, &m->route_scale));
    return read_groups(c);
}

/* The shared expert: its own width, or that of so many experts side by side. */
static int read_shared(struct config *c)
{
    struct model *m = c->m;
    const struct family *f = c->family;
    int64_t count;
    m->shared_gate = f->shared_gate;
    if (f->shared_ffn.key)
        return config_int_of(c, &f->shared_ffn, 0, MAX_WIDTH, &m->shared_ffn);
    TRY(config_int_of(c, &f->shared_experts, 0, MAX_EXPERTS, &count));
    if (!mul_ok(count, m->expert_ffn, &m->shared_ffn) || m->shared_ffn > MAX_WIDTH)
        return json_bad(&c->doc, f->shared_experts.key, "is %lld: together they are wider than %d",
                        (long long)count, MAX_WIDTH);
    return 0;
}

static int read_dense_list(struct config *c)
{
    const char *key = c->family->dense_list;
    const json_t *list = config_member(c, key), *item;
    size_t i;
    if (!list)
        return 0;
    if (!json_is_array(list))
        return json_bad(&c->doc, key, "must be an array");
    json_array_foreach(list, i, item)
    {
        if (!json_is_integer(item))
            return json_bad(&c->doc, key, "must hold integers");
        int64_t layer = json_integer_value(item);
        if (layer >= 0 && layer < c->m->layers) /* others mean nothing, as in transformers */
            c->m->moe[layer] = false;
    }
    return 0;
}

/* Which layers are MoE. */
static int read_layers(struct config *c)
{
    struct model *m = c->m;
    int64_t step = 1, dense;
    if (c->family->sparse_step)
        TRY(config_int(c, c->family->sparse_step, 1, MAX_LAYERS, &step));
    TRY(config_int_of(c, &c->family->first_dense, 0, MAX_LAYERS, &dense));
    for (int64_t l = 0; l < m->layers; l++)
        m->moe[l] = l >= dense && (l + 1) % step == 0;
    TRY(read_dense_list(c));
    for (int64_t l = 0; l < m->layers; l++)
        m->moe_layers += m->moe[l];
    if (m->moe_layers == m->layers)
        m->dense_ffn = 0;
    else if (!m->dense_ffn)
        return json_bad(&c->doc, "intermediate_size", "is 0, and there are layers that are not MoE");
    if (!m->moe_layers)
        return json_bad(&c->doc, "num_hidden_layers", "is %lld, and none of the layers is MoE",
                        (long long)m->layers);
    return 0;
}

int config_moe(struct config *c)
{
    if (!c->family->experts[0]) {
        config_plan_only(c, "no layer is MoE");
        return 0;
    }
    if (c->family->stacked)
        config_plan_only(c, "experts with biases and a SwiGLU that is clamped");
    TRY(read_router(c));
    TRY(read_shared(c));
    return read_layers(c);
}
