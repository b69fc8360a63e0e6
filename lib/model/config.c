/* SPDX-License-Identifier: MIT */
/* Reads config.json as transformers does: its names, its defaults for what is absent, its older spellings. What
 * is understood but cannot be trained is said in plan_only; what makes no sense is an error. */
#include "model/config.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/config_attention.h"
#include "model/config_keys.h"
#include "model/config_moe.h"
#include "model/size.h"

/* The row of this model_type, or -1. */
static int family_of(const char *type)
{
    for (int i = 0; families[i].type; i++)
        if (strcmp(families[i].type, type) == 0 || (families[i].also && strcmp(families[i].also, type) == 0))
            return i;
    return -1;
}

/* Models that see or hear hold their language model's config in one of these; of what stands around it some
 * counts where the inner one is silent. */
static int enter_text(struct config *c)
{
    static const char key[] = "text_config";
    const json_t *text = json_object_get(c->root, key);
    const char *type = NULL;
    TRY(json_text(&c->doc, c->root, "model_type", &type));
    if (!json_is_object(text) || (type && family_of(type) >= 0))
        return 0;
    snprintf(c->m->wrapped, sizeof c->m->wrapped, "%s", type ? type : "a config without model_type");
    config_plan_only(c, "it is the text part of %s", c->m->wrapped);
    static const char *const shared[] = {"tie_word_embeddings", "torch_dtype", "dtype", "quantization_config",
                                         "quantization"};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        json_t *outer = json_object_get(c->root, shared[i]);
        if (outer && !json_object_get(text, shared[i]))
            json_object_set((json_t *)text, shared[i], outer);
    }
    c->root = text;
    json_enter(&c->doc, key);
    return 0;
}

static int read_family(struct config *c)
{
    const char *type = NULL;
    char known[1024];
    TRY(json_text(&c->doc, c->root, "model_type", &type));
    if (!type)
        return json_bad(&c->doc, "model_type", "is missing");
    c->m->family = family_of(type);
    if (c->m->family < 0)
        return json_bad(&c->doc, "model_type", "is '%.60s', not %s", type,
                        words_text(&family_words, known, sizeof known));
    c->family = model_family(c->m);
    return 0;
}

static int read_sizes(struct config *c)
{
    struct model *m = c->m;
    const struct family *f = c->family;
    TRY(config_size(c, "num_hidden_layers", f->layers, MAX_LAYERS, &m->layers));
    TRY(config_size(c, "hidden_size", f->hidden, MAX_HIDDEN, &m->hidden));
    TRY(config_size(c, "vocab_size", f->vocab, MAX_VOCAB, &m->vocab));
    TRY(config_size(c, "num_attention_heads", f->heads, MAX_HEADS, &m->heads));
    TRY(config_experts(c));
    m->dense_ffn = f->dense_ffn;
    TRY(config_int(c, "intermediate_size", 0, MAX_WIDTH, &m->dense_ffn));
    m->max_positions = c->family->max_positions;
    TRY(config_int(c, "max_position_embeddings", 1, MAX_POSITIONS, &m->max_positions));
    m->norm_eps = c->family->norm_eps;
    TRY(config_num(c, "rms_norm_eps", 0, 1, &m->norm_eps));
    m->init_std = 0.02;
    TRY(config_num(c, "initializer_range", 0, 1000, &m->init_std));
    return config_flag(c, "tie_word_embeddings", &m->tied);
}

/* PyTorch's names; those that can be computed in first. */
static int read_dtype(struct config *c)
{
    static const char *const known[] = {
        "float32",
        "float",
        "bfloat16",
        "float16",
        "half",
        "float64",
        "double",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn_x2",
        "int8",
        "uint8",
        "int16",
        "int32",
        "int64",
    };
    const char *text = NULL, *key = "torch_dtype";
    TRY(json_text(&c->doc, c->root, "torch_dtype", &text));
    int newer = json_text(&c->doc, c->root, "dtype", &text); /* this spelling wins */
    TRY(newer);
    if (newer)
        key = "dtype";
    if (!text)
        return 0; /* float32, as in PyTorch */
    const char *name = strncmp(text, "torch.", 6) == 0 ? text + 6 : text;
    size_t i = 0;
    while (i < sizeof known / sizeof *known && strcmp(name, known[i]) != 0)
        i++;
    if (i == sizeof known / sizeof *known)
        return json_bad(&c->doc, key, "is '%.40s', no dtype that is known", text);
    c->m->bf16 = i == 2;
    if (i > 2)
        snprintf(c->m->other_dtype, sizeof c->m->other_dtype, "%s", name);
    return 0;
}

/* As transformers and its quantizers say it, or (`quantization`) MLX. */
static int read_quantised(struct config *c)
{
    static const char *const keys[] = {"quantization_config", "compression_config", "quantization"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *o = config_member(c, keys[i]);
        const char *method = i == 2 ? "mlx" : "quantised";
        if (json_object_size(o) == 0)
            continue;
        TRY(json_text(&c->doc, o, "quant_method", &method));
        snprintf(c->m->quantised, sizeof c->m->quantised, "%s", method);
        config_plan_only(c, "%s: its weights are quantised", keys[i]);
        return 0;
    }
    return 0;
}

static int read_rest(struct config *c)
{
    const char *act = "silu";
    TRY(json_text(&c->doc, c->root, "hidden_act", &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        config_plan_only(c, "hidden_act '%.40s'", act);
    TRY(read_quantised(c));
    return read_dtype(c);
}

static int read_config(struct config *c)
{
    TRY(enter_text(c));
    TRY(read_family(c));
    TRY(read_sizes(c));
    c->m->moe = xcalloc((size_t)c->m->layers, sizeof *c->m->moe);
    c->m->mixer = xcalloc((size_t)c->m->layers, sizeof *c->m->mixer);
    TRY(config_attention(c));
    TRY(config_moe(c));
    TRY(read_rest(c));
    int64_t n = model_parameters(c->m);
    if (n < 0 || n > MAX_PARAMETERS)
        return json_bad(&c->doc, "hidden_size",
                        "and the other sizes make a model of more than 2^56 parameters");
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
    struct config c = {.m = m};
    *m = (struct model){0};
    if (json_open(&c.doc, text, bytes, where) < 0)
        return -1;
    c.root = c.doc.root;
    name_after(m, where);
    int rc = read_config(&c);
    json_close(&c.doc);
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
