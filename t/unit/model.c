/* SPDX-License-Identifier: MIT */
/* The inventory: published totals, names and shapes as transformers saves them. The lists of names are checked
 * against what contrib/oracle/make-models.py printed; with MOEKIT_MODELS=its OUTDIR against the files as well.
 */
#include <inttypes.h>
#include <math.h>
#include <zlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/presets.h"
#include "lib/configs.h"
#include "lib/unit.h"
#include "model/inventory.h"
#include "model/load.h"
#include "model/size.h"

static const struct {
    const char *name, *config;
    int count;           /* tensors */
    uint32_t crc32;      /* of the sorted lines "NAME 97x48" */
    uint32_t tied_crc32; /* with tie_word_embeddings, one fewer */
} tiny[] = {
    {.name = "mixtral", .config = tiny_mixtral, .count = 96, .crc32 = 0x7080ccdc, .tied_crc32 = 0x19b7c4d8},
    {.name = "qwen2_moe", .config = tiny_qwen2, .count = 117, .crc32 = 0x89019d8c, .tied_crc32 = 0x00ef1af7},
    {.name = "qwen3_moe", .config = tiny_qwen3, .count = 92, .crc32 = 0x4ceabe53, .tied_crc32 = 0x75f6bfe4},
    {.name = "olmoe", .config = tiny_olmoe, .count = 114, .crc32 = 0xbbc512ae, .tied_crc32 = 0x752a3882},
    {.name = "glm4_moe", .config = tiny_glm4, .count = 97, .crc32 = 0x6df002a4, .tied_crc32 = 0xfaa8903f},
    {.name = "qwen3_next",
     .config = tiny_qwen3_next,
     .count = 132,
     .crc32 = 0xf115f0a4,
     .tied_crc32 = 0x866f823a},
    {.name = "deepseek_v2",
     .config = tiny_deepseek2,
     .count = 107,
     .crc32 = 0x572a9514,
     .tied_crc32 = 0x84c8b95c},
    {.name = "deepseek_v3",
     .config = tiny_deepseek3,
     .count = 85,
     .crc32 = 0x47e2511c,
     .tied_crc32 = 0xf5e30070},
    {.name = "gpt_oss", .config = tiny_gpt_oss, .count = 54, .crc32 = 0xf23235e3, .tied_crc32 = 0xcb0c5fa5},
    {.name = "llama", .config = tiny_llama, .count = 51, .crc32 = 0x26ce6e3d, .tied_crc32 = 0x66c21b53},
    {.name = "qwen3", .config = tiny_dense_qwen3, .count = 48, .crc32 = 0x1b43666f, .tied_crc32 = 0xa1aa753a},
};
enum { TINY = sizeof tiny / sizeof *tiny };

/* ---- helpers ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of the sorted lines "NAME 97x48", or "NAME [97,48]". */
static uint32_t list_crc32(const struct model *m, const struct inventory *v, bool brackets)
{
    uint32_t crc = 0;
    char **lines = xcalloc((size_t)v->count, sizeof *lines), name[128];
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        tensor_name(m, t, name);
        char shape[128];
        tensor_shape_text(t, shape);
        for (char *p = shape; *p && !brackets; p++)
            *p = *p == ',' ? 'x' : *p;
        size_t cut = brackets ? 0 : 1;
        lines[i] = xasprintf("%s %.*s\n", name, (int)(strlen(shape) - 2 * cut), shape + cut);
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

/* Presets and families' defaults as transformers builds them: t/data/model-totals. */
static void golden(void **state)
{
    char *path = xasprintf("%s/../t/data/model-totals", data_dir()); /* the tree's, wherever this runs */
    FILE *f = fopen(path, "r");
    char line[256], name[64];
    long long parameters;
    int tensors, seen = 0;
    uint32_t crc;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        struct model m;
        struct inventory v;
        if (*line == '#')
            continue;
        assert_int_equal(sscanf(line, "%63s %lld %d %" SCNx32, name, &parameters, &tensors, &crc), 4);
        if (strncmp(name, "default:", 8) == 0) {
            char *text = xasprintf("{\"model_type\": \"%s\"}", name + 8);
            load(&m, text);
            free(text);
        } else if (model_load(&m, name) < 0) {
            fail_msg("%s", error_text());
        }
        assert_int_equal(inventory_init(&v, &m), 0);
        if (model_parameters(&m) != parameters || v.count != tensors || list_crc32(&m, &v, true) != crc)
            fail_msg("%s: %lld parameters in %d tensors, not %lld in %d, or other names or shapes", name,
                     (long long)model_parameters(&m), v.count, parameters, tensors);
        inventory_release(&v);
        model_release(&m);
        seen++;
    }
    fclose(f);
    free(path);
    assert_true(seen >= 25);
}

static void flops(void **state)
{
    struct model m;
    double with,
        without; /* attention of DeepSeek-V3: reference of Megatron's convention, 30.70 GFLOP at 4096 */
    assert_int_equal(model_load(&m, "deepseek-v3"), 0);
    with = model_flops_per_token(&m, 4096);
    without = model_flops_per_token(&m, 0);
    assert_true(fabs((with - without) / 30.70e9 - 1) < 1e-3);
    model_release(&m);
    /* windows of 128 in half of the layers */
    assert_int_equal(model_load(&m, "gpt-oss-20b"), 0);
    with = model_flops_per_token(&m, 4096) - model_flops_per_token(&m, 0);
    assert_true(with == 6. * 12 * (2048 + 128) * 64 * 128);
    model_release(&m);
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
            assert_int_equal(list_crc32(&m, &v, false), tied ? tiny[i].tied_crc32 : tiny[i].crc32);
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
            int64_t dims[3];
            assert_int_equal(json_array_size(shape), tensor_shape(t, dims));
            json_array_foreach(shape, at, n) assert_int_equal(json_integer_value(n), dims[at]);
        }
        inventory_release(&v);
        json_close(&d);
        model_release(&m);
        free(data);
        free(file);
        free(path);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals),    cmocka_unit_test(golden), cmocka_unit_test(flops),
        cmocka_unit_test(presets),   cmocka_unit_test(lists),  cmocka_unit_test(every_family),
        cmocka_unit_test(strangers), cmocka_unit_test(order),  cmocka_unit_test(saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
