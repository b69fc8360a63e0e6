/* SPDX-License-Identifier: MIT */
/* What the keys of config.json mean, the edges that transformers lets pass among them, and hostile input. */
#include "base/memory.h"
#include "lib/configs.h"
#include "lib/unit.h"
#include "model/inventory.h"

/* ---- what the keys mean ---- */

static void spellings(void **state)
{
    struct model a, b;
    load(&a, tiny_glm4);
    assert_true(a.rotary_dim == 8 && a.sigmoid && a.renormalise && a.groups == 2 && a.top_groups == 1);
    assert_true(a.route_scale == 1.5 && a.shared_ffn == 48 && !a.shared_gate && a.moe_layers == 2 && !a.moe[0]);
    model_release(&a);

    load_with(&a, tiny_mixtral, "rope_theta", "500");
    load_with(&b, tiny_mixtral, "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 500}");
    assert_true(a.rope_theta == 500 && b.rope_theta == 500 && !*b.plan_only);
    model_release(&a);
    model_release(&b);

    load_with(&a, tiny_mixtral, "torch_dtype", "\"bfloat16\"");
    load_with(&b, tiny_mixtral, "dtype", "\"bfloat16\"");
    assert_true(a.bf16 && b.bf16);
    model_release(&a);
    model_release(&b);

    load_with(&a, tiny_qwen3, "norm_topk_prob", NULL);
    assert_true(!a.renormalise && a.moe_layers == 2 && !a.moe[1] && a.qk_norm == QK_NORM_HEAD);
    assert_true(a.norm_eps == 1e-6 && a.rope_theta == 10000 && a.loss_coef[LOSS_AUX] == 0.001 &&
                a.init_std == 0.02);
    model_release(&a);
    load_with(&a, tiny_qwen3, "decoder_sparse_step", "3"); /* layer 2 alone */
    assert_true(a.moe_layers == 1 && a.moe[2] && a.dense_ffn == 72);
    model_release(&a);
    load_with(&a, tiny_mixtral, "num_key_value_heads", "null");
    assert_true(a.kv_heads == a.heads && a.renormalise && a.rope_theta == 1e6 && !a.dense_ffn);
    model_release(&a);
    load(&a, tiny_olmoe);
    assert_true(a.qk_norm == QK_NORM_FULL && a.clip_qkv == 0.9 && a.head_dim == 12 && a.o_bias);
    model_release(&a);
    load_with(&a, tiny_qwen2, "qkv_bias", NULL);
    assert_true(a.qkv_bias && a.shared_gate && a.shared_ffn == 56);
    model_release(&a);
}

static void planned_only(void **state)
{
    static const struct {
        const char *config, *key, *value, *reason; /* "": it can be trained */
    } cases[] = {
        {tiny_mixtral, "sliding_window", "0", "sliding_window 0 lets no token attend"},
        {tiny_mixtral, "rope_scaling", "false", ""},
        {tiny_mixtral, "rope_scaling", "0", ""},
        {tiny_glm4, "rope_parameters", "{\"partial_rotary_factor\": 0.2}", "RoPE turns 3 dimensions"},
        {tiny_glm4, "rope_parameters", "{\"partial_rotary_factor\": 0}", "RoPE turns 0 dimensions"},
        {tiny_mixtral, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4.0}", "rope_type 'yarn'"},
        {tiny_mixtral, "rope_scaling", "{}", ""},
        {tiny_mixtral, "hidden_act", "\"gelu\"", "hidden_act 'gelu'"},
        {tiny_mixtral, "hidden_act", "\"silu\"", ""},
        {tiny_mixtral, "attention_dropout", "0.1", "attention_dropout 0.1"},
        {tiny_mixtral, "router_jitter_noise", "0.01", "router_jitter_noise"},
        {tiny_qwen3, "attention_bias", "true", ""},
        {tiny_olmoe, "attention_bias", "true", ""},
        {tiny_glm4, "quantization_config", "{}", ""},
        {tiny_glm4, "quantization_config", "{\"quant_method\": \"fp8\"}", "quantised"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model m;
        load_with(&m, cases[i].config, cases[i].key, cases[i].value);
        if (*cases[i].reason ? !strstr(m.plan_only, cases[i].reason) : *m.plan_only)
            fail_msg("%s %s: '%s'", cases[i].key, cases[i].value, m.plan_only);
        model_release(&m);
    }
}

/* A window: whether it acts is a matter of the sequences too, so no reason by itself. */
static void windows(void **state)
{
#define FULL    "\"full_attention\""
#define SLIDING "\"sliding_attention\""
    static const struct {
        const char *config, *key, *value;
        int64_t window;
    } cases[] = {
        {tiny_mixtral, "sliding_window", "4096", 4096},
        {tiny_mixtral, "sliding_window", "131072", 131072},
        {tiny_mixtral, "sliding_window", "null", 0},
        {tiny_qwen3, "sliding_window", "4096", 0},
        {tiny_qwen3, "use_sliding_window", "true", 4096},
        {tiny_qwen2, "use_sliding_window", "true", 4096},
        {tiny_qwen2, "layer_types", "[" FULL ", " FULL ", " FULL "]", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model m;
        load_with(&m, cases[i].config, cases[i].key, cases[i].value);
        if (m.window != cases[i].window || *m.plan_only)
            fail_msg("%s %s: %lld, '%s'", cases[i].key, cases[i].value, (long long)m.window, m.plan_only);
        model_release(&m);
    }
    struct model m; /* transformers switches the window off and keeps the layers: nothing attends */
    load_with(&m, tiny_qwen2, "layer_types", "[" FULL ", " SLIDING ", " FULL "]");
    assert_non_null(strstr(m.plan_only, "sliding_window 0"));
    model_release(&m);
}

/* The parts that came with the later families. */
static void later_families(void **state)
{
    struct model m;
    load(&m, tiny_deepseek2);
    assert_true(m.head_dim == 24 && m.value_dim == 12 && m.rotary_dim == 8 && m.q_rank == 28 &&
                m.kv_rank == 20);
    assert_true(m.groups == 1 && !m.sigmoid && m.mlp_bias);
    model_release(&m);
    char *grouped = with(tiny_deepseek2, "topk_method", "\"group_limited_greedy\"");
    load_with(&m, grouped, "n_group", "4");
    assert_true(m.groups == 4 && strstr(m.plan_only, "group_limited_greedy"));
    model_release(&m);
    free(grouped);
    load_with(&m, tiny_deepseek2, "num_experts_per_tok", NULL);
    assert_true(m.top_k == 6 && strstr(m.assumed, "num_experts_per_tok 6"));
    model_release(&m);
    load(&m, tiny_gpt_oss);
    assert_true(m.mixer[0] == MIX_WINDOW && m.mixer[1] == MIX_FULL && m.mixer[2] == MIX_WINDOW &&
                m.window == 128);
    model_release(&m);
    load(&m, tiny_qwen3_next);
    assert_true(m.mixer[2] == MIX_LINEAR && m.mixer[3] == MIX_FULL && m.rotary_dim == 4);
    model_release(&m);
    load_with(&m, tiny_qwen3_next, "full_attention_interval", "2");
    assert_true(m.mixer[0] == MIX_LINEAR && m.mixer[1] == MIX_FULL);
    model_release(&m);
    load_with(&m, tiny_dense_qwen3, "use_sliding_window", "true"); /* from layer 28 on */
    assert_true(m.window == 0 && m.experts == 0 && m.moe_layers == 0 && m.dense_ffn == 72);
    model_release(&m);
}

/* What transformers lets pass, and what it then means. */
static void edges(void **state)
{
    struct model m;
    load_with(&m, tiny_qwen3, "mlp_only_layers", "[1, 3, -1, 99]");
    assert_true(m.moe_layers == 2 && !m.moe[1]);
    model_release(&m);
    load_with(&m, tiny_glm4, "n_shared_experts", "0");
    assert_true(m.shared_ffn == 0 && !*m.plan_only);
    model_release(&m);
    load_with(&m, tiny_qwen2, "shared_expert_intermediate_size", "0"); /* its gate stays */
    struct tensor t;
    assert_true(m.shared_ffn == 0 && inventory_tensor(&m, T_SHARED_SWITCH, 0, &t) &&
                !inventory_tensor(&m, T_SHARED_GATE, 0, &t));
    model_release(&m);
    load_with(&m, tiny_qwen2, "hidden_size", "50");
    assert_int_equal(m.head_dim, 12);
    model_release(&m);
    load_with(&m, tiny_qwen2, "intermediate_size", "0"); /* no layer has it */
    assert_int_equal(m.dense_ffn, 0);
    model_release(&m);
    load_with(&m, tiny_glm4, "head_dim", NULL);
    assert_int_equal(m.head_dim, 12);
    model_release(&m);
    char *text = with(tiny_glm4, "partial_rotary_factor", "null");
    load_with(&m, text, "rope_parameters", NULL); /* absent is a half; null is none, so all */
    assert_int_equal(m.rotary_dim, 16);
    model_release(&m);
    free(text);
    load_with(&m, tiny_qwen2, "num_local_experts", "3"); /* not a spelling of this family's */
    assert_int_equal(m.experts, 8);
    model_release(&m);
}

/* Sizes that are left out are the class's, and noted. */
static void assumed(void **state)
{
    struct model m;
    load(&m, tiny_mixtral);
    assert_string_equal(m.assumed, "");
    model_release(&m);
    load_with(&m, tiny_mixtral, "num_hidden_layers", NULL);
    assert_int_equal(m.layers, 32);
    assert_string_equal(m.assumed, "num_hidden_layers 32");
    model_release(&m);
    load(&m, "{\"model_type\": \"glm4_moe\"}");
    assert_true(m.layers == 46 && m.hidden == 4096 && m.heads == 96 && m.vocab == 151552);
    assert_true(m.experts == 128 && m.expert_ffn == 1408 && m.head_dim == 42);
    assert_non_null(strstr(m.assumed, "hidden_size 4096; "));
    model_release(&m);
}

/* ---- hostile input ---- */

/* Must fail with status 2 and text that has all of these parts. */
static void refused(const char *text, size_t bytes, const char *a, const char *b, const char *c)
{
    struct model m;
    error_clear();
    if (model_parse(&m, text, bytes, "t.json") == 0)
        fail_msg("accepted: %s %s %s in\n%s", a, b, c, text);
    assert_int_equal(error_status(), STATUS_USAGE);
    if (!strstr(error_text(), a) || !strstr(error_text(), b) || !strstr(error_text(), c))
        fail_msg("'%s' lacks one of '%s' '%s' '%s'", error_text(), a, b, c);
    assert_null(m.moe);
}

static const struct {
    const char *config, *key, *value, *says, *named; /* named: the key blamed, when it is another */
} hostile[] = {
    {tiny_mixtral, "model_type", NULL, "missing"},
    {tiny_mixtral, "model_type", "\"bert\"", "is 'bert', not mixtral, qwen2_moe, "},
    {tiny_mixtral, "model_type", "7", "a string"},
    {tiny_mixtral, "hidden_size", "null", "missing"},
    {tiny_mixtral, "hidden_size", "-48", "outside"},
    {tiny_mixtral, "hidden_size", "0", "outside"},
    {tiny_mixtral, "hidden_size", "1048577", "outside"},
    {tiny_mixtral, "hidden_size", "9223372036854775807", "outside"},
    {tiny_mixtral, "hidden_size", "\"48\"", "an integer, not a string"},
    {tiny_mixtral, "hidden_size", "48.5", "an integer, not a fraction"},
    {tiny_mixtral, "hidden_size", "[48]", "an integer, not an array"},
    {tiny_mixtral, "num_hidden_layers", "4097", "outside"},
    {tiny_mixtral, "num_hidden_layers", "true", "an integer"},
    {tiny_mixtral, "vocab_size", "134217729", "outside"},
    {tiny_mixtral, "num_local_experts", "null", "missing"},
    {tiny_mixtral, "num_local_experts", "65537", "outside"},
    {tiny_mixtral, "num_experts", "4", "'num_local_experts' is 8"},
    {tiny_mixtral, "num_attention_heads", "5", "multiple of num_key_value_heads 2"},
    {tiny_mixtral, "num_key_value_heads", "0", "outside"},
    {tiny_mixtral, "num_experts_per_tok", "9", "more than the 8 experts"},
    {tiny_mixtral, "num_experts_per_tok", "0", "outside"},
    {tiny_mixtral, "head_dim", "15", "even"},
    {tiny_mixtral, "intermediate_size", "1e9", "an integer"},
    {tiny_mixtral, "intermediate_size", "16777217", "outside"},
    {tiny_mixtral, "rms_norm_eps", "-1e-5", "outside"},
    {tiny_mixtral, "rms_norm_eps", "\"small\"", "a number"},
    {tiny_mixtral, "rope_theta", "0", "outside"},
    {tiny_mixtral, "rope_parameters", "3", "an object"},
    {tiny_mixtral, "tie_word_embeddings", "1", "true or false"},
    {tiny_mixtral, "hidden_act", "{}", "a string"},
    {tiny_mixtral, "router_aux_loss_coef", "-1", "outside"},
    {tiny_mixtral, "router_bias_update_rate", "0.001", "no correction bias"},
    {tiny_mixtral, "rope_scaling", "true", "an object"},
    {tiny_mixtral, "rope_scaling", "1", "an object"},
    {tiny_mixtral, "rope_parameters", "false", "an object"},
    {tiny_mixtral, "rope_parameters", "{\"full_attention\": {\"rope_theta\": 5.0}}", "one RoPE",
     "full_attention"},
    {tiny_qwen2, "hidden_size", "3", "no head_dim"},
    {tiny_qwen2, "layer_types", "{}", "an array"},
    {tiny_qwen2, "layer_types", "[\"full_attention\"]", "1 words for 3 layers"},
    {tiny_qwen2, "shared_expert_intermediate_size", "-1", "outside"},
    {tiny_qwen3, "intermediate_size", "0", "not MoE"},
    {tiny_qwen3, "decoder_sparse_step", "0", "outside"},
    {tiny_qwen3, "decoder_sparse_step", "4", "none of the layers", "num_hidden_layers"},
    {tiny_qwen3, "mlp_only_layers", "[0.5]", "integers"},
    {tiny_qwen3, "mlp_only_layers", "\"1\"", "an array"},
    {tiny_olmoe, "head_dim", "16", "hidden_size / num_attention_heads"},
    {tiny_olmoe, "clip_qkv", "-1", "outside"},
    {tiny_deepseek3, "num_key_value_heads", "2", "not num_attention_heads 4"},
    {tiny_deepseek3, "qk_rope_head_dim", "7", "even"},
    {tiny_deepseek3, "kv_lora_rank", "0", "outside"},
    {tiny_deepseek2, "topk_method", "\"noaux_tc\"", "not \"greedy\" or"},
    {tiny_qwen3_next, "linear_num_value_heads", "3", "not a multiple of linear_num_key_heads 2"},
    {tiny_qwen3_next, "layer_types", "[\"full_attention\"]", "has 1 words for 4 layers"},
    {tiny_llama, "hidden_size", "50", "not a multiple of num_attention_heads 4"},
    {tiny_glm4, "n_group", "3", "does not divide"},
    {tiny_glm4, "n_group", "8", "2 experts or more"},
    {tiny_glm4, "topk_group", "3", "more than n_group"},
    {tiny_glm4, "num_experts_per_tok", "5", "fewer than num_experts_per_tok", "topk_group"},
    {tiny_glm4, "n_shared_experts", "65537", "outside"},
    {tiny_glm4, "first_k_dense_replace", "3", "none of the layers", "num_hidden_layers"},
    {tiny_glm4, "rope_parameters", "{\"partial_rotary_factor\": 2}", "outside", "partial_rotary_factor"},
};

static void hostile_values(void **state)
{
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        const char *named = hostile[i].named ? hostile[i].named : hostile[i].key;
        char *text = with(hostile[i].config, hostile[i].key, hostile[i].value),
             *quoted = xasprintf("\"%s\":", named);
        const char *at = strstr(text, quoted);
        int line = 1;
        for (const char *p = text; at && p < at; p++)
            line += *p == '\n';
        char *where = xasprintf("t.json:%d:", line);
        refused(text, strlen(text), where, named, hostile[i].says);
        free(where);
        free(quoted);
        free(text);
    }
}

/* A model within another's config, and weights that a quantizer made. */
static void wrapped(void **state)
{
    char *text =
        xasprintf("{\"model_type\": \"kimi_vl\", \"vision_config\": {\"hidden_size\": 7},\n"
                  " \"tie_word_embeddings\": true, \"quantization\": {\"bits\": 4}, \"text_config\":\n%s}",
                  tiny_deepseek3);
    struct model m;
    load(&m, text);
    assert_string_equal(m.wrapped, "kimi_vl");
    assert_string_equal(m.quantised, "mlx");
    assert_true(m.hidden == 48 && m.tied && strstr(m.plan_only, "text part of kimi_vl"));
    model_release(&m);
    /* the place of a key is that of the text part's */
    char *bad = with(text, "hidden_size", "-1");
    refused(bad, strlen(bad), "t.json:6:", "hidden_size", "outside");
    free(bad);
    free(text);
    load_with(&m, tiny_gpt_oss, "quantization_config", "{\"quant_method\": \"mxfp4\"}");
    assert_string_equal(m.quantised, "mxfp4");
    model_release(&m);
    static const char stranger[] = "{\"model_type\": \"x\", \"text_config\": {\"model_type\": \"bert\"}}";
    refused(stranger, strlen(stranger), "t.json:1:", "model_type", "is 'bert'");
}

static void hostile_sizes(void **state)
{
    /* each in bounds, together more than can be counted */
    static const char huge[] = SIZES("mixtral", 4096, 1048576, 64, 64, 134217728, 2)
        LINE("intermediate_size", "16777216") LINE("num_local_experts", "65536") END;
    refused(huge, sizeof huge - 1, "t.json:4:3", "hidden_size", "2^56");

    static const char many[] = SIZES("mixtral", 4096, 2, 1, 1, 1, 1) LINE("intermediate_size", "1")
        LINE("num_local_experts", "65536") END;
    struct model m;
    struct inventory v;
    load(&m, many);
    assert_int_equal(inventory_init(&v, &m), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    inventory_release(&v);
    model_release(&m);
}

static void hostile_syntax(void **state)
{
    char deep[20000] = "{\"a\": ";
    memset(deep + 6, '[', sizeof deep - 6);
    refused(deep, sizeof deep, "t.json:1:", "depth", "");
    static const char comma[] = "{\n  \"hidden_size\": 4,\n  \"x\": ,\n}", twice[] = "{\"a\": 1,\n \"a\": 2}",
                      nul[] = "{\"model_type\": \"mix\0tral\"}", end[] = "{} {}", array[] = "[1]",
                      big[] = "{\"hidden_size\": 99999999999999999999}", real[] = "{\"rope_theta\": 1e999}",
                      utf8[] = "{\"a\": \"\xff\"}", escaped[] = "{\"model_type\": \"a\\u0000\"}";
    refused(comma, sizeof comma - 1, "t.json:3:", "", "");
    refused(twice, sizeof twice - 1, "t.json:2:", "duplicate", "");
    refused(nul, sizeof nul - 1, "t.json:1:", "", "");
    refused(end, sizeof end - 1, "t.json:1:", "", "");
    refused(array, sizeof array - 1, "t.json:1:1", "object", "");
    refused(big, sizeof big - 1, "t.json:1:", "", "");
    refused(real, sizeof real - 1, "t.json:1:", "", "");
    refused(utf8, sizeof utf8 - 1, "t.json:1:", "", "");
    refused(escaped, sizeof escaped - 1, "t.json:1:", "", "");
    refused("", 0, "t.json:1:1", "", "");
    for (size_t n = 0; n < sizeof tiny_glm4 - 3; n++) { /* a cut anywhere */
        char *cut = xmalloc(n + 1);
        memcpy(cut, tiny_glm4, n);
        refused(cut, n, "t.json:", "", "");
        free(cut);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings),      cmocka_unit_test(windows),        cmocka_unit_test(edges),
        cmocka_unit_test(assumed),        cmocka_unit_test(later_families), cmocka_unit_test(wrapped),
        cmocka_unit_test(planned_only),   cmocka_unit_test(hostile_values), cmocka_unit_test(hostile_sizes),
        cmocka_unit_test(hostile_syntax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
