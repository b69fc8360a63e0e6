/* SPDX-License-Identifier: MIT */
/* What config.json files say, as moekit reads them: for contrib/oracle/configs.py, which compares it with
 * transformers.
 *
 *     model-figures FILE…
 *
 * A line of JSON for each: every figure of the model, and "moe", with a 0 or 1 a layer; or {"error": TEXT}. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/inventory.h"
#include "model/load.h"
#include "model/size.h"

static json_t *moe_layers(const struct model *m)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < m->layers; l++)
        json_array_append_new(list, json_integer(m->moe[l]));
    return list;
}

static json_t *mixers(const struct model *m)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < m->layers; l++)
        json_array_append_new(list, json_integer(m->mixer[l]));
    return list;
}

static json_t *figures(const struct model *m)
{
    json_t *o = json_object();
#define INT(member) json_object_set_new(o, #member, json_integer((json_int_t)m->member))
#define NUM(member) json_object_set_new(o, #member, json_real((double)m->member))
    INT(layers), INT(hidden), INT(heads), INT(kv_heads), INT(head_dim), INT(vocab);
    INT(experts), INT(top_k), INT(expert_ffn), INT(shared_ffn), INT(dense_ffn);
    INT(value_dim), INT(q_rank), INT(kv_rank), INT(mlp_bias);
    INT(tied), INT(qkv_bias), INT(o_bias), INT(qk_norm), INT(rotary_dim);
    INT(sigmoid), INT(renormalise), INT(groups), INT(top_groups), INT(max_positions), INT(window), INT(bf16);
    NUM(clip_qkv), NUM(rope_theta), NUM(norm_eps), NUM(init_std), NUM(route_scale);
    json_object_set_new(o, "aux_coef", json_real(m->loss_coef[LOSS_AUX]));
    json_object_set_new(o, "moe", moe_layers(m));
    json_object_set_new(o, "mixer", mixers(m));
    const struct linear *x = &m->linear;
    bool any = memchr(m->mixer, MIX_LINEAR, (size_t)m->layers);
    json_object_set_new(o, "linear",
                        any ? json_pack("[I,I,I,I,I]", (json_int_t)x->key_heads, (json_int_t)x->value_heads,
                                        (json_int_t)x->key_dim, (json_int_t)x->value_dim, (json_int_t)x->taps)
                            : json_null());
    json_object_set_new(o, "parameters", json_integer(model_parameters(m)));
    json_object_set_new(o, "plan_only", json_string(m->plan_only));
    return o;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct model m;
        json_t *o = model_load(&m, argv[i]) == 0 ? figures(&m) : json_pack("{s:s}", "error", error_text());
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        if (!json_object_get(o, "error"))
            model_release(&m);
        json_decref(o);
    }
    return 0;
}
