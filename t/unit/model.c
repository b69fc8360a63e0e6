/* SPDX-License-Identifier: MIT */
/* Configs and the inventory: published totals, names and shapes as transformers saves them, hostile input. The
 * lists of names are checked against what contrib/oracle/make-models.py printed; with MOEKIT_MODELS=its OUTDIR
 * against the files as well. */
#include <math.h>
#include <zlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "lib/unit.h"
#include "model/config.h"
#include "model/inventory.h"
#include "model/load.h"
#include "model/size.h"

/* ---- configs: one key a line, so that tests can replace one ---- */

/* clang-format off */
#define LINE(key, value) "  \"" key "\": " value ",\n"
#define SIZES(type, layers, hidden, heads, kv, vocab, k) \
    "{\n" LINE("model_type", "\"" type "\"") LINE("num_hidden_layers", #layers) LINE("hidden_size", #hidden) \
    LINE("num_attention_heads", #heads) LINE("num_key_value_heads", #kv) LINE("vocab_size", #vocab) \
    LINE("num_experts_per_tok", #k)
#define END "  \"transformers_version\": \"5.23.0\"\n}\n"

static const char mixtral_8x7b[] = SIZES("mixtral", 32, 4096, 32, 8, 32000, 2)
    LINE("intermediate_size", "14336") LINE("num_local_experts", "8") LINE("rope_theta", "1000000.0")
    LINE("sliding_window", "null") LINE("torch_dtype", "\"bfloat16\"") END;
#define QWEN3(layers, hidden, heads, width) SIZES("qwen3_moe", layers, hidden, heads, 4, 151936, 8) \
    LINE("head_dim", "128") LINE("intermediate_size", "6144") LINE("moe_intermediate_size", width) \
    LINE("num_experts", "128") LINE("norm_topk_prob", "true") LINE("rope_scaling", "null") \
    LINE("mlp_only_layers", "[]") LINE("use_sliding_window", "false") \
    LINE("max_position_embeddings", "40960") END
static const char qwen3_30b[] = QWEN3(48, 2048, 32, "768");
static const char qwen3_235b[] = QWEN3(94, 4096, 64, "1536");

/* The models of make-models.py, as far as names, shapes and routing go. */
static const char tiny_mixtral[] = SIZES("mixtral", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "40") LINE("num_local_experts", "8") END;
static const char tiny_qwen2[] = SIZES("qwen2_moe", 3, 48, 4, 2, 97, 2)
    LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24") LINE("num_experts", "8")
    LINE("shared_expert_intermediate_size", "56") LINE("qkv_bias", "true") LINE("decoder_sparse_step", "1") END;
static const char tiny_qwen3[] = SIZES("qwen3_moe", 3, 48, 6, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24")
    LINE("num_local_experts", "8") LINE("mlp_only_layers", "[1]") LINE("decoder_sparse_step", "1")
    LINE("norm_topk_prob", "true") END;
static const char tiny_olmoe[] = SIZES("olmoe", 3, 48, 4, 2, 97, 4)
    LINE("intermediate_size", "24") LINE("num_experts", "8") LINE("clip_qkv", "0.9") END;
static const char tiny_glm4[] = SIZES("glm4_moe", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24")
    LINE("n_routed_experts", "8") LINE("n_shared_experts", "2") LINE("first_k_dense_replace", "1")
    LINE("n_group", "2") LINE("topk_group", "1") LINE("routed_scaling_factor", "1.5") \
    LINE("attention_bias", "true")
    LINE("use_qk_norm", "true")
    LINE("rope_parameters", "{\"partial_rotary_factor\": 0.5, \"rope_theta\": 1e4}") END;
/* clang-format on */

static const struct {
    const char *name, *config;
    int count;           /* tensors */
    uint32_t crc32;      /* of the sorted lines "NAME 97x48" */
    uint32_t tied_crc32; /* with tie_word_embeddings, one fewer */
} tiny[] = {
    {.name = "mixtral", .config = tiny_mixtral, .count = 96, .crc32 = 0x7080ccdc, .tied_crc32 = 0x19b7c4d8},
    {.name = "qwen2_moe", .config = tiny_qwen2, .count = 117, .crc32 = 0x89019d8c, .tied_crc32 = 0x00ef1af7},
    {.name = "qwen3_moe", .config = tiny_qwen3, .count = 80, .crc32 = 0xbde9e6b5, .tied_crc32 = 0x133ad4a1},
    {.name = "olmoe", .config = tiny_olmoe, .count = 102, .crc32 = 0x730d64d8, .tied_crc32 = 0x79d48e16},
    {.name = "glm4_moe", .config = tiny_glm4, .count = 97, .crc32 = 0x6df002a4, .tied_crc32 = 0xfaa8903f},
};
enum { TINY = sizeof tiny / sizeof *tiny };

/* ---- helpers ---- */

/* `config` with this key's line replaced, or added in front, or (value NULL) left out. Caller frees. */
static char *with(const char *config, const char *key, const char *value)
{
    char *quoted = xasprintf("  \"%s\":", key),
         *line = value ? xasprintf("%s %s,\n", quoted, value) : xstrdup("");
    const char *at = strstr(config, quoted), *rest = at ? strchr(at, '\n') + 1 : config + 2;
    char *text = xasprintf("%.*s%s%s", (int)((at ? at : config + 2) - config), config, line, rest);
    free(quoted);
    free(line);
    return text;
}

static void load(struct model *m, const char *config)
{
    error_clear();
    if (model_parse(m, config, strlen(config), "t.json") < 0)
        fail_msg("%s", error_text());
}

static void load_with(struct model *m, const char *config, const char *key, const char *value)
{
    char *text = with(config, key, value);
    load(m, text);
    free(text);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint32_t list_crc32(const struct model *m, const struct inventory *v)
{
    uint32_t crc = 0;
    char **lines = xcalloc((size_t)v->count, sizeof *lines), name[128];
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        tensor_name(m, t, name);
        lines[i] = t->dims == 1 ? xasprintf("%s %lld\n", name, (long long)t->rows)
                                : xasprintf("%s %lldx%lld\n", name, (long long)t->rows, (long long)t->cols);
    }
    qsort(lines, (size_t)v->count, sizeof *lines, by_text);
    for (int i = 0; i < v->count; i++) {
        crc = (uint32_t)crc32_z(crc, (const unsigned char *)lines[i], strlen(lines[i]));
        free(lines[i]);
    }
    free(lines);
    return crc;
}

/* ---- totals ---- */

static void totals(void **state)
{
    static const struct {
        const char *config;
        int64_t parameters, active;
    } known[] = {
        {mixtral_8x7b, 46702792704, 12879925248},
        {qwen3_30b, 30532122624, 3353032704},
        {qwen3_235b, 235093634560, 22190763520},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct model m;
        load(&m, known[i].config);
        assert_int_equal(model_parameters(&m), known[i].parameters);
        assert_int_equal(model_active_parameters(&m), known[i].active);
        assert_string_equal(m.plan_only, "");
        model_release(&m);
    }
}

static void flops(void **state)
{
    struct model m;
    load(&m, qwen3_30b);
    assert_true(fabs(model_flops_per_token(&m, 4096) / 23.006e9 - 1) < 1e-4);
    model_release(&m);
    assert_int_equal(model_load(&m, "moe-7b"), 0);
    assert_true(model_flops_per_token(&m, 2048) == 2013265920);
    model_release(&m);

    /* tied or not, the logits are a product */
    double untied;
    load(&m, tiny_glm4);
    untied = model_flops_per_token(&m, 64);
    model_release(&m);
    load_with(&m, tiny_glm4, "tie_word_embeddings", "true");
    assert_true(model_flops_per_token(&m, 64) == untied);
    model_release(&m);
}

static void presets(void **state)
{
    struct model m;
    assert_int_equal(model_load(&m, "moe-7b"), 0);
    assert_string_equal(m.name, "moe-7b");
    assert_int_equal(model_parameters(&m), 6577751040);
    assert_true(m.bf16 && m.loss_coef[LOSS_AUX] == 0.01 && m.rope_theta == 10000 && m.norm_eps == 1e-5);
    assert_int_equal(crc32_z(0, (unsigned char *)m.source, m.source_bytes), m.source_crc32);
    model_release(&m);
    assert_int_equal(model_load(&m, "moe-tiny"), 0);
    assert_true(m.vocab == 256 && m.kv_heads == 4 && m.experts == 8 && !m.bf16);
    model_release(&m);

    assert_int_equal(model_load(&m, "moe-8b"), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "moe-7b, "));
    assert_int_equal(model_load(&m, "/nowhere/config.json"), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
}

/* ---- names and shapes ---- */

static void lists(void **state)
{
    for (int i = 0; i < TINY; i++)
        for (int tied = 0; tied < 2; tied++) {
            struct model m;
            struct inventory v;
            int64_t sum = 0;
            load_with(&m, tiny[i].config, "tie_word_embeddings", tied ? "true" : "false");
            assert_int_equal(inventory_init(&v, &m), 0);
            assert_int_equal(v.count, tiny[i].count - tied);
            assert_int_equal(list_crc32(&m, &v), tied ? tiny[i].tied_crc32 : tiny[i].crc32);
            for (int k = 0; k < v.count; k++) {
                char name[128];
                assert_int_equal(inventory_find(&v, &m, tensor_name(&m, &v.tensors[k], name)), k);
                sum += tensor_count(&v.tensors[k]);
            }
            assert_int_equal(sum, model_parameters(&m));
            inventory_release(&v);
            model_release(&m);
        }
}

/* A family that is added has its lists here. */
static void every_family(void **state)
{
    for (const struct family *f = families; f->type; f++) {
        int found = 0;
        for (int i = 0; i < TINY; i++)
            found += strcmp(tiny[i].name, f->type) == 0;
        if (found != 1)
            fail_msg("%d of the tiny models are of family '%s'", found, f->type);
    }
}

static void strangers(void **state)
{
    static const char *const names[] = {
        "",
        "model",
        "model.layers.",
        "model.layers.0.",
        "model.layers.3.input_layernorm.weight",
        "model.layers.00.input_layernorm.weight",
        "model.layers.-1.input_layernorm.weight",
        "model.layers.99999999999999999999.input_layernorm.weight",
        "model.layers.0.input_layernorm.weight ",
        "model.layers.0.input_layernorm.weigh",
        "model.layers.0.model.norm.weight",
        "input_layernorm.weight",
        "model.layers.0.mlp.gate.weight",
        "model.layers.0.block_sparse_moe.experts.8.w1.weight",
        "model.layers.0.block_sparse_moe.experts.01.w1.weight",
        "model.layers.0.block_sparse_moe.experts..w1.weight",
        "model.layers.0.block_sparse_moe.experts.99999999999.w1.weight",
        "model.layers.0.block_sparse_moe.experts.",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.mlp.experts.0.gate_proj.weight",
    };
    struct model m;
    struct inventory v;
    load(&m, tiny_mixtral);
    assert_int_equal(inventory_init(&v, &m), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(inventory_find(&v, &m, names[i]), -1);
    inventory_release(&v);
    model_release(&m);
}

static void order(void **state)
{
    static const struct {
        int at;
        const char *name;
        enum tensor_cut cut;
    } glm4[] = {
        {0, "model.embed_tokens.weight", CUT_VOCAB},
        {1, "model.layers.0.input_layernorm.weight", CUT_NONE},
        {2, "model.layers.0.self_attn.q_proj.weight", CUT_HEADS},
        {5, "model.layers.0.self_attn.q_proj.bias", CUT_HEADS},
        {6, "model.layers.0.self_attn.k_proj.bias", CUT_KV},
        {9, "model.layers.0.self_attn.k_norm.weight", CUT_NONE},
        {10, "model.layers.0.self_attn.o_proj.weight", CUT_COLS},
        {12, "model.layers.0.mlp.gate_proj.weight", CUT_ROWS},
        {26, "model.layers.1.mlp.gate.weight", CUT_NONE},
        {27, "model.layers.1.mlp.gate.e_score_correction_bias", CUT_NONE},
        {30, "model.layers.1.mlp.shared_experts.down_proj.weight", CUT_COLS},
        {31, "model.layers.1.mlp.experts.0.gate_proj.weight", CUT_ROWS},
        {33, "model.layers.1.mlp.experts.0.down_proj.weight", CUT_COLS},
        {34, "model.layers.1.mlp.experts.1.gate_proj.weight", CUT_ROWS},
        {95, "model.norm.weight", CUT_NONE},
        {96, "lm_head.weight", CUT_VOCAB},
    };
    struct model m;
    struct inventory v;
    char name[128];
    load(&m, tiny_glm4);
    assert_int_equal(inventory_init(&v, &m), 0);
    for (size_t i = 0; i < sizeof glm4 / sizeof *glm4; i++) {
        assert_string_equal(tensor_name(&m, &v.tensors[glm4[i].at], name), glm4[i].name);
        assert_int_equal(v.tensors[glm4[i].at].cut, glm4[i].cut);
    }
    const struct tensor *bias = &v.tensors[27], *norm = &v.tensors[1], *q = &v.tensors[2],
                        *q_bias = &v.tensors[5];
    assert_true(!bias->trained && bias->zeros && !bias->decayed);
    assert_true(norm->trained && norm->ones && !norm->zeros && !norm->decayed);
    assert_true(q->trained && !q->ones && !q->zeros && q->decayed);
    assert_true(q_bias->zeros && !q_bias->decayed);
    inventory_release(&v);
    model_release(&m);
}

/* Against the files of MOEKIT_MODELS. */
static void saved(void **state)
{
    const char *dir = getenv("MOEKIT_MODELS"), *require = getenv("MOEKIT_REQUIRE");
    if (!dir && require && strstr(require, "models"))
        fail_msg("MOEKIT_MODELS is not set");
    if (!dir) { /* cmocka's skip() prints "not ok" */
        print_message("# skipped: MOEKIT_MODELS is not set, no files to compare with\n");
        return;
    }
    for (int i = 0; i < TINY; i++) {
        struct model m;
        struct inventory v;
        struct json_doc d;
        size_t bytes, at;
        uint64_t header;
        char name[128], *path = xasprintf("%s/%s", dir, tiny[i].name),
                        *file = path_join(path, "model.safetensors"), *data = file_read(file, 1 << 26, &bytes);
        if (!data || model_load(&m, path) < 0)
            fail_msg("%s", error_text());
        memcpy(&header, data, 8);
        assert_int_equal(json_open(&d, data + 8, header, file), 0);
        json_object_del(d.root, "__metadata__");
        assert_int_equal(inventory_init(&v, &m), 0);
        assert_int_equal(json_object_size(d.root), v.count);
        for (int k = 0; k < v.count; k++) {
            const struct tensor *t = &v.tensors[k];
            json_t *o = json_object_get(d.root, tensor_name(&m, t, name)), *shape = json_object_get(o, "shape"),
                   *n;
            assert_int_equal(json_array_size(shape), t->dims);
            json_array_foreach(shape, at, n) assert_int_equal(json_integer_value(n), at ? t->cols : t->rows);
        }
        inventory_release(&v);
        json_close(&d);
        model_release(&m);
        free(data);
        free(file);
        free(path);
    }
}

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
    assert_true(a.qk_norm == QK_NORM_FULL && a.clip_qkv == 0.9 && a.head_dim == 12 && !a.qkv_bias);
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
        {tiny_mixtral, "sliding_window", "4096", "sliding_window 4096 is shorter"},
        {tiny_mixtral, "sliding_window", "131072", ""},
        {tiny_mixtral, "sliding_window", "null", ""},
        {tiny_qwen3, "sliding_window", "4096", ""},
        {tiny_qwen3, "use_sliding_window", "true", "sliding_window 4096"},
        {tiny_qwen2, "use_sliding_window", "true", "sliding_window 4096"},
        {tiny_qwen2, "layer_types", "[\"full_attention\", \"full_attention\", \"full_attention\"]", ""},
        {tiny_qwen2, "layer_types", "[\"full_attention\", \"sliding_attention\"]", "sliding_window"},
        {tiny_mixtral, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4.0}", "rope_type 'yarn'"},
        {tiny_mixtral, "rope_scaling", "{}", ""},
        {tiny_mixtral, "hidden_act", "\"gelu\"", "hidden_act 'gelu'"},
        {tiny_mixtral, "hidden_act", "\"silu\"", ""},
        {tiny_mixtral, "attention_dropout", "0.1", "attention_dropout 0.1"},
        {tiny_mixtral, "router_jitter_noise", "0.01", "router_jitter_noise"},
        {tiny_qwen3, "attention_bias", "true", "o_proj"},
        {tiny_olmoe, "attention_bias", "true", "o_proj"},
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
    {tiny_mixtral, "model_type", "\"llama\"", "is 'llama', not mixtral, qwen2_moe, "},
    {tiny_mixtral, "model_type", "7", "a string"},
    {tiny_mixtral, "hidden_size", NULL, "missing"},
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
    {tiny_mixtral, "vocab_size", NULL, "missing"},
    {tiny_mixtral, "vocab_size", "134217729", "outside"},
    {tiny_mixtral, "num_local_experts", NULL, "missing"},
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
    {tiny_qwen2, "hidden_size", "50", "no head_dim"},
    {tiny_qwen2, "layer_types", "{}", "an array"},
    {tiny_qwen2, "shared_expert_intermediate_size", "0", "outside"},
    {tiny_qwen3, "decoder_sparse_step", "0", "outside"},
    {tiny_qwen3, "decoder_sparse_step", "4", "none of the layers", "num_hidden_layers"},
    {tiny_qwen3, "mlp_only_layers", "[3]", "layer 3 of 3"},
    {tiny_qwen3, "mlp_only_layers", "[-1]", "layer -1"},
    {tiny_qwen3, "mlp_only_layers", "[0.5]", "integers"},
    {tiny_qwen3, "mlp_only_layers", "\"1\"", "an array"},
    {tiny_olmoe, "head_dim", "16", "hidden_size / num_attention_heads"},
    {tiny_olmoe, "clip_qkv", "-1", "outside"},
    {tiny_glm4, "n_group", "3", "does not divide"},
    {tiny_glm4, "n_group", "8", "2 experts or more"},
    {tiny_glm4, "topk_group", "3", "more than n_group"},
    {tiny_glm4, "num_experts_per_tok", "5", "fewer than num_experts_per_tok", "topk_group"},
    {tiny_glm4, "n_shared_experts", "65537", "outside"},
    {tiny_glm4, "first_k_dense_replace", "3", "none of the layers", "num_hidden_layers"},
    {tiny_glm4, "rope_parameters", "{\"partial_rotary_factor\": 0.2}", "even", "partial_rotary_factor"},
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
        cmocka_unit_test(totals),         cmocka_unit_test(flops),          cmocka_unit_test(presets),
        cmocka_unit_test(lists),          cmocka_unit_test(every_family),   cmocka_unit_test(strangers),
        cmocka_unit_test(order),          cmocka_unit_test(saved),          cmocka_unit_test(spellings),
        cmocka_unit_test(planned_only),   cmocka_unit_test(hostile_values), cmocka_unit_test(hostile_sizes),
        cmocka_unit_test(hostile_syntax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
