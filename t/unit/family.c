/* SPDX-License-Identifier: MIT */
/* The table of families is whole: each row has what the readers of config.json and the inventory take for
 * granted. A new row is tested here without a line more; what its keys mean is t/unit/model.c's. */
#include "base/json.h"
#include "lib/unit.h"
#include "model/config.h"
#include "model/inventory.h"
#include "model/tensor_names.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void holds(const struct family *f, bool ok, const char *what)
{
    if (!ok)
        fail_msg("the row of '%s': %s", f->type, what);
}

static void types(void **state)
{
    int rows = 0;
    for (const struct family *f = families; f->type; f++, rows++) {
        size_t n = strlen(f->type);
        holds(f, n > 0 && strspn(f->type, "abcdefghijklmnopqrstuvwxyz0123456789_") == n, "its type is a word");
        holds(f, word_index(&family_words, f->type) == rows, "the type is its own");
        holds(f, f->names, "it has a style of names");
    }
    assert_true(rows >= 5);
    assert_null(word_at(&family_words, rows));
}

/* The defaults are in the bounds that config.json's values are held to. */
static void defaults(void **state)
{
    for (const struct family *f = families; f->type; f++) {
        holds(f, f->layers > 0 && f->hidden > 0 && f->heads > 0 && f->vocab > 0, "sizes have defaults");
        holds(f, !f->experts[0] || (f->expert_count > 0 && f->expert_ffn.absent > 0), "experts have defaults");
        holds(f, f->dense_ffn > 0 && f->max_positions > 0, "sizes have defaults");
        holds(f, f->kv_heads >= 0 && !f->top_k == !f->experts[0], "numbers of heads and experts have defaults");
        holds(f, f->norm_eps > 0 && f->norm_eps < 1e-3 && f->rope_theta >= 1, "norm_eps and rope_theta");
        holds(f, f->aux_coef >= 0 && f->aux_coef < 1, "aux_coef");
        holds(f, f->rotary_part >= 0 && f->rotary_part <= 1, "rotary_part");
        holds(f, f->shared_ffn.absent >= 0 && f->shared_experts.absent >= 0, "shared experts");
        holds(f, f->first_dense.absent >= 0, "first_dense");
        holds(f, f->clip_qkv.absent >= 0, "clip_qkv");
        holds(f, f->window.tokens.absent >= 0 && f->window.layers.absent >= 0, "windows");
        holds(f, !f->route_scale.key || f->route_scale.absent > 0, "route_scale");
        holds(f, !f->groups.key || f->groups.absent > 0, "groups");
        holds(f, !f->groups.key || f->top_groups.absent > 0, "top_groups");
        holds(f, f->top_groups.absent <= f->groups.absent, "top_groups is within groups");
    }
}

/* A member that only means something beside another has the other. */
static void pairs(void **state)
{
    for (const struct family *f = families; f->type; f++) {
        const struct window_keys *w = &f->window;
        holds(f, !f->experts[0] == !f->expert_ffn.key, "experts have keys");
        holds(f, f->experts[0] || (!f->shared_ffn.key && !f->shared_experts.key && !f->stacked),
              "dense is dense");
        holds(f,
              !f->latent.kv_rank.key == !f->latent.value.key && !f->latent.kv_rank.key == !f->latent.q_rank.key,
              "latents have ranks and a width");
        holds(f, !f->linear.types == !f->linear.taps.key && !f->linear.types == !f->linear.interval.key,
              "linear attention has heads, taps and layers");
        holds(f, !f->experts[COUNT(f->experts) - 1] && !f->untrained[COUNT(f->untrained) - 1], "lists end");
        for (int i = 0; f->experts[i]; i++)
            for (int k = 0; k < i; k++)
                holds(f, strcmp(f->experts[i], f->experts[k]) != 0, "no spelling twice");
        holds(f, !f->qk_norm_on || f->qk_norm, "qk_norm_on switches a norm");
        holds(f, !f->o_bias || f->qkv_bias.key, "o_bias has qkv_bias's key");
        holds(f, !(f->shared_ffn.key && f->shared_experts.key), "one way to say the shared width");
        holds(f, !f->shared_gate || f->shared_ffn.key || f->shared_experts.key, "shared_gate is of one");
        holds(f, !f->groups.key == !f->top_groups.key, "groups and top_groups");
        holds(f, w->tokens.key || (!w->on && !w->types && !w->layers.key), "windows have a length");
        holds(f, w->types || !w->layers.key, "window.layers stands in for types");
        holds(f, !w->layers.key == (w->which == WINDOW_ALL || w->which == WINDOW_EVEN),
              "window.which has its layer");
    }
}

/* ---- names ---- */

static int hashes(const char *template)
{
    int n = 0;
    for (; *template; template ++)
        n += *template == '#';
    return n;
}

static void templates(void **state)
{
    for (const struct family *f = families; f->type; f++)
        for (int k = 0; k < TENSOR_KINDS; k++) {
            const char *name = tensor_template(f->names, k);
            bool expert = k == T_EXPERT_GATE || k == T_EXPERT_UP || k == T_EXPERT_DOWN;
            if (!name || !*name)
                fail_msg("the row of '%s': tensor kind %d has no name", f->type, k);
            if (hashes(name) != expert)
                fail_msg("the row of '%s': '%s' has not one '#' for an expert, or one too many", f->type, name);
            for (int other = 0; other < k; other++)
                if (strcmp(name, tensor_template(f->names, other)) == 0)
                    fail_msg("the row of '%s': '%s' names two kinds", f->type, name);
        }
}

/* ---- a model of each row, made of the row's keys ---- */

static void put_int(json_t *o, const char *key, int64_t value)
{
    if (key)
        json_object_set_new(o, key, json_integer(value));
}

static void put_true(json_t *o, const char *key)
{
    if (key)
        json_object_set_new(o, key, json_true());
}

/* The smallest config: what no family has a default for, and 4 heads of 16. */
static json_t *smallest(const struct family *f)
{
    json_t *o = json_pack("{s:s}", "model_type", f->type);
    put_int(o, "num_hidden_layers", 3);
    put_int(o, "hidden_size", 64);
    put_int(o, "num_attention_heads", 4);
    json_object_set_new(o, "num_key_value_heads", json_null());
    put_int(o, "vocab_size", 96);
    put_int(o, f->experts[0], 16);
    put_int(o, f->first_dense.key, 0);
    put_int(o, f->expert_ffn.key, 24);
    return o;
}

/* Frees o. */
static void load(struct model *m, const struct family *f, json_t *o)
{
    char *text = json_dumps(o, 0);
    error_clear();
    if (model_parse(m, text, strlen(text), "t.json") < 0)
        fail_msg("the row of '%s': %s", f->type, error_text());
    assert_ptr_equal(model_family(m), f);
    free(text);
    json_decref(o);
}

static void absent(void **state)
{
    for (const struct family *f = families; f->type; f++) {
        struct model m;
        load(&m, f, smallest(f));
        int64_t head = f->latent.kv_rank.key ? f->latent.nope.absent + f->latent.rope.absent
                       : f->head_dim         ? f->head_dim
                                             : 16;
        holds(f, m.kv_heads == 4 && m.head_dim == head, "sizes of heads");
        holds(f, f->experts[0] ? m.experts == 16 && m.expert_ffn == 24 : m.experts == 0 && m.moe_layers == 0,
              "sizes");
        holds(f, m.top_k == llabs(f->top_k) && m.max_positions == f->max_positions, "defaults of sizes");
        holds(f,
              m.norm_eps == f->norm_eps && m.rope_theta == f->rope_theta &&
                  m.loss_coef[LOSS_AUX] == f->aux_coef,
              "defaults of numbers");
        holds(f, m.o_bias == (f->o_bias && m.qkv_bias), "a bias of o");
        holds(f, m.qkv_bias == f->qkv_bias.absent && m.renormalise == f->renormalise.absent, "flags");
        holds(f, m.qk_norm == (f->qk_norm_on ? QK_NORM_NONE : f->qk_norm), "norms of q and k");
        holds(f, !f->experts[0] || m.groups == (f->groups.key ? f->groups.absent : 1), "groups");
        holds(f, !f->experts[0] || m.route_scale == (f->route_scale.key ? f->route_scale.absent : 1),
              "route_scale");
        holds(f, m.sigmoid == f->sigmoid && m.shared_gate == f->shared_gate, "router and shared expert");
        holds(f, m.shared_ffn == f->shared_ffn.absent + 24 * f->shared_experts.absent, "shared width");
        bool trained = !f->latent.kv_rank.key && !f->linear.types && !f->stacked && f->experts[0];
        holds(f, trained == !*m.plan_only, "a model of defaults can be trained, or it is said why not");
        model_release(&m);
    }
}

/* With all its parts switched on and layers of both kinds, a name is found where it was given. */
static void names_are_found(void **state)
{
    for (const struct family *f = families; f->type; f++) {
        struct model m;
        struct inventory v;
        char name[128];
        json_t *o = smallest(f);
        put_true(o, f->qkv_bias.key);
        put_true(o, f->qk_norm_on);
        put_true(o, f->mlp_bias.key);
        put_int(o, f->first_dense.key, 1);
        if (f->dense_list)
            json_object_set_new(o, f->dense_list, json_pack("[i]", 1));
        load(&m, f, o);
        holds(f, m.moe_layers == (f->experts[0] ? 3 - !!f->first_dense.key - !!f->dense_list : 0),
              "dense layers");
        holds(f, m.qkv_bias == (f->qkv_bias.key || f->qkv_bias.absent) && m.qk_norm == f->qk_norm, "parts");
        assert_int_equal(inventory_init(&v, &m), 0);
        for (int i = 0; i < v.count; i++)
            if (inventory_find(&v, &m, tensor_name(&m, &v.tensors[i], name)) != i)
                fail_msg("the row of '%s': '%s' is not found again", f->type, name);
        inventory_release(&v);
        model_release(&m);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),     cmocka_unit_test(defaults), cmocka_unit_test(pairs),
        cmocka_unit_test(templates), cmocka_unit_test(absent),   cmocka_unit_test(names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
