/* SPDX-License-Identifier: MIT */
#include "recast/upcycle.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/config.h"
#include "recast/origin.h"

struct upcycling {
    const struct upcycle_request *r;
    struct origin from;
    struct draft draft;
    char *config;
    struct model model;
    struct inventory inventory;
};

/* What a dense family becomes. */
static const struct target {
    const char *dense, *type, *class, *experts, *width;
} targets[] = {
    {"llama", "mixtral", "MixtralForCausalLM", "num_local_experts", "intermediate_size"},
    {"qwen3", "qwen3_moe", "Qwen3MoeForCausalLM", "num_experts", "moe_intermediate_size"},
};

/* ---- config.json ---- */

/* The sizes, in full: where the dense family's config leaves one out, the other's default is another. */
static void set_sizes(json_t *o, const struct model *m, const struct target *t)
{
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {
        {"hidden_size", m->hidden},
        {"num_hidden_layers", m->layers},
        {"num_attention_heads", m->heads},
        {"num_key_value_heads", m->kv_heads},
        {"head_dim", m->head_dim},
        {"vocab_size", m->vocab},
        {"max_position_embeddings", m->max_positions},
        {"intermediate_size", m->dense_ffn},
        {t->width, m->dense_ffn},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value)
            json_object_set_new(o, sizes[i].key, json_integer(sizes[i].value));
    json_object_set_new(o, "rms_norm_eps", json_real(m->norm_eps));
    json_object_set_new(o, "tie_word_embeddings", json_boolean(m->tied));
    if (!json_object_get(o, "rope_parameters"))
        json_object_set_new(o, "rope_theta", json_real(m->rope_theta));
}

static void set_experts(json_t *o, const struct upcycle_request *r, const struct target *t)
{
    json_object_set_new(o, "model_type", json_string(t->type));
    json_object_set_new(o, "architectures", json_pack("[s]", t->class));
    json_object_set_new(o, t->experts, json_integer(r->experts));
    json_object_set_new(o, "num_experts_per_tok", json_integer(r->top_k));
    if (strcmp(t->type, "qwen3_moe") == 0) {
        json_object_set_new(o, "norm_topk_prob", json_true());
        json_object_set_new(o, "decoder_sparse_step", json_integer(1));
        json_object_set_new(o, "mlp_only_layers", json_array());
        json_object_del(o, "layer_types");
        json_object_del(o, "max_window_layers");
    } else {
        json_object_set_new(o, "sliding_window", json_null());
        json_object_del(o, "attention_bias");
        json_object_del(o, "mlp_bias");
        json_object_del(o, "pretraining_tp");
    }
}

static int make_config(struct upcycling *u, const struct target *t)
{
    struct json_doc d;
    const struct model *m = &u->from.model;
    TRY(json_open(&d, m->source, m->source_bytes, CONFIG_FILE));
    set_sizes(d.root, m, t);
    set_experts(d.root, u->r, t);
    u->config = json_dumps(d.root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_close(&d);
    return model_parse(&u->model, u->config, strlen(u->config), "config.json with experts");
}

static const struct target *find_target(const struct model *m)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (strcmp(model_family(m)->type, targets[i].dense) == 0)
            return &targets[i];
    return NULL;
}

static int check(const struct upcycle_request *r, const struct model *m, const struct target *t)
{
    if (!t)
        return error(STATUS_USAGE, "%s: is %s%s, not a dense model of llama or qwen3", r->dir,
                     model_family(m)->type, m->moe_layers ? ", which has experts" : "");
    if (*m->wrapped)
        return error(STATUS_USAGE, "%s: is the text part of %s: only models of their own can be upcycled",
                     r->dir, m->wrapped);
    if (m->mlp_bias || (strcmp(t->type, "mixtral") == 0 && (m->qkv_bias || m->o_bias)))
        return error(STATUS_USAGE, "%s: has biases (%s), which %s has not", r->dir,
                     m->mlp_bias ? "mlp_bias" : "attention_bias", t->type);
    if (m->window)
        return error(STATUS_USAGE, "%s: has a sliding window, which is not carried over", r->dir);
    if (r->top_k > r->experts)
        return error(STATUS_USAGE, "--top-k %lld is more than --experts %lld", (long long)r->top_k,
                     (long long)r->experts);
    return 0;
}

/* ---- tensors ---- */

static enum tensor_kind dense_kind(enum tensor_kind k)
{
    return k == T_EXPERT_GATE ? T_GATE : k == T_EXPERT_UP ? T_UP : k == T_EXPERT_DOWN ? T_DOWN : k;
}

static int add_tensor(struct upcycling *u, const struct tensor *t)
{
    struct tensor old;
    struct piece p = {0};
    const char *file = SINGLE_FILE;
    char name[128];
    int64_t shape[3];
    bool router = t->kind == T_ROUTER;
    tensor_name(&u->model, t, name);
    /* a router is of the dtype of the norm before it */
    if (!inventory_tensor(&u->from.model, router ? T_POST_NORM : dense_kind(t->kind), t->layer, &old) ||
        (!router && tensor_count(&old) != tensor_count(t)))
        return error(STATUS_USAGE, "%s: has nothing that tensor '%s' could be made of", u->r->dir, name);
    TRY(origin_piece(&u->from, &old, WEIGHTS, &p, &file));
    enum number to = p.from;
    if (router)
        p = (struct piece){.from = NUMBER_F32, .count = tensor_count(t), .std = u->r->std};
    int dims = tensor_shape(t, shape);
    made_add(draft_tensor(&u->draft, draft_file(&u->draft, file), name, to, dims, shape), p);
    return 0;
}

static int make_all(struct upcycling *u)
{
    const struct target *t = find_target(&u->from.model);
    TRY(check(u->r, &u->from.model, t));
    TRY(make_config(u, t));
    TRY(inventory_init(&u->inventory, &u->model));
    for (int i = 0; i < u->inventory.count; i++)
        TRY(add_tensor(u, &u->inventory.tensors[i]));
    draft_shard(&u->draft, SHARD_BYTES);
    u->draft.seed = u->r->seed;
    return origin_write_like(&u->from, u->r->out, u->config, &u->draft, "upcycling");
}

int upcycle_dir(const struct upcycle_request *r)
{
    struct upcycling u = {.r = r};
    TRY(origin_open(&u.from, r->dir, true));
    int rc = make_all(&u);
    draft_release(&u.draft);
    inventory_release(&u.inventory);
    model_release(&u.model);
    origin_release(&u.from);
    free(u.config);
    return rc;
}
