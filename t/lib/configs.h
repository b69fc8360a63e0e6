/* SPDX-License-Identifier: MIT */
/* Small configs of every family for unit tests, and ways to change a key of one. */
#ifndef T_CONFIGS_H
#define T_CONFIGS_H

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "lib/unit.h"
#include "model/config.h"

/* One key a line, so that tests can replace one. */

/* clang-format off */
#define LINE(key, value) "  \"" key "\": " value ",\n"
#define SIZES(type, layers, hidden, heads, kv, vocab, k) \
    "{\n" LINE("model_type", "\"" type "\"") LINE("num_hidden_layers", #layers) LINE("hidden_size", #hidden) \
    LINE("num_attention_heads", #heads) LINE("num_key_value_heads", #kv) LINE("vocab_size", #vocab) \
    LINE("num_experts_per_tok", #k)
#define END "  \"transformers_version\": \"5.23.0\"\n}\n"

static const char __attribute__((unused)) mixtral_8x7b[] = SIZES("mixtral", 32, 4096, 32, 8, 32000, 2)
    LINE("intermediate_size", "14336") LINE("num_local_experts", "8") LINE("rope_theta", "1000000.0")
    LINE("sliding_window", "null") LINE("torch_dtype", "\"bfloat16\"") END;
#define QWEN3(layers, hidden, heads, width) SIZES("qwen3_moe", layers, hidden, heads, 4, 151936, 8) \
    LINE("head_dim", "128") LINE("intermediate_size", "6144") LINE("moe_intermediate_size", width) \
    LINE("num_experts", "128") LINE("norm_topk_prob", "true") LINE("rope_scaling", "null") \
    LINE("mlp_only_layers", "[]") LINE("use_sliding_window", "false") \
    LINE("max_position_embeddings", "40960") END
static const char __attribute__((unused)) qwen3_30b[] = QWEN3(48, 2048, 32, "768");
static const char __attribute__((unused)) qwen3_235b[] = QWEN3(94, 4096, 64, "1536");

/* The models of make-models.py, as far as names, shapes and routing go. */
static const char __attribute__((unused)) tiny_mixtral[] = SIZES("mixtral", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "40") LINE("num_local_experts", "8") END;
static const char __attribute__((unused)) tiny_qwen2[] = SIZES("qwen2_moe", 3, 48, 4, 2, 97, 2)
    LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24") LINE("num_experts", "8")
    LINE("shared_expert_intermediate_size", "56") LINE("qkv_bias", "true") LINE("decoder_sparse_step", "1") END;
static const char __attribute__((unused)) tiny_qwen3[] = SIZES("qwen3_moe", 3, 48, 6, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24")
    LINE("num_local_experts", "8") LINE("mlp_only_layers", "[1]") LINE("decoder_sparse_step", "1")
    LINE("norm_topk_prob", "true") LINE("attention_bias", "true") END;
static const char __attribute__((unused)) tiny_olmoe[] = SIZES("olmoe", 3, 48, 4, 2, 97, 4)
    LINE("intermediate_size", "24") LINE("num_experts", "8") LINE("clip_qkv", "0.9")
    LINE("attention_bias", "true") END;
static const char __attribute__((unused)) tiny_glm4[] = SIZES("glm4_moe", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24")
    LINE("n_routed_experts", "8") LINE("n_shared_experts", "2") LINE("first_k_dense_replace", "1")
    LINE("n_group", "2") LINE("topk_group", "1") LINE("routed_scaling_factor", "1.5") \
    LINE("attention_bias", "true")
    LINE("use_qk_norm", "true")
    LINE("rope_parameters", "{\"partial_rotary_factor\": 0.5, \"rope_theta\": 1e4}") END;
static const char __attribute__((unused)) tiny_qwen3_next[] = SIZES("qwen3_next", 4, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("moe_intermediate_size", "24")
    LINE("shared_expert_intermediate_size", "40") LINE("num_experts", "8") LINE("mlp_only_layers", "[1]")
    LINE("linear_num_key_heads", "2") LINE("linear_num_value_heads", "4") LINE("linear_key_head_dim", "8")
    LINE("linear_value_head_dim", "12") LINE("attention_bias", "true") END;
#define LATENT(q_rank) LINE("n_routed_experts", "8") LINE("intermediate_size", "72") \
    LINE("moe_intermediate_size", "24") LINE("kv_lora_rank", "20") LINE("q_lora_rank", q_rank) \
    LINE("qk_nope_head_dim", "16") LINE("qk_rope_head_dim", "8") LINE("v_head_dim", "12") \
    LINE("first_k_dense_replace", "1")
static const char __attribute__((unused)) tiny_deepseek2[] = SIZES("deepseek_v2", 3, 48, 4, 4, 97, 2)
    LATENT("28") LINE("attention_bias", "true") LINE("mlp_bias", "true") END;
static const char __attribute__((unused)) tiny_deepseek3[] = SIZES("deepseek_v3", 3, 48, 4, 4, 97, 2)
    LATENT("null") LINE("n_group", "2") LINE("topk_group", "1") END;
static const char __attribute__((unused)) tiny_gpt_oss[] = SIZES("gpt_oss", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "40") LINE("num_local_experts", "8") END;
static const char __attribute__((unused)) tiny_llama[] = SIZES("llama", 3, 48, 4, 2, 97, 2)
    LINE("intermediate_size", "72") LINE("attention_bias", "true") LINE("mlp_bias", "true") END;
static const char __attribute__((unused)) tiny_dense_qwen3[] = SIZES("qwen3", 3, 48, 4, 2, 97, 2)
    LINE("head_dim", "16") LINE("intermediate_size", "72") LINE("attention_bias", "true") END;
/* clang-format on */

/* `config` with this key's line replaced, or added in front, or (value NULL) left out. Caller frees. */
static inline char *with(const char *config, const char *key, const char *value)
{
    char *quoted = xasprintf("  \"%s\":", key),
         *line = value ? xasprintf("%s %s,\n", quoted, value) : xstrdup("");
    const char *at = strstr(config, quoted), *rest = at ? strchr(at, '\n') + 1 : config + 2;
    char *text = xasprintf("%.*s%s%s", (int)((at ? at : config + 2) - config), config, line, rest);
    free(quoted);
    free(line);
    return text;
}

static inline void load(struct model *m, const char *config)
{
    error_clear();
    if (model_parse(m, config, strlen(config), "t.json") < 0)
        fail_msg("%s", error_text());
}

static inline void load_with(struct model *m, const char *config, const char *key, const char *value)
{
    char *text = with(config, key, value);
    load(m, text);
    free(text);
}

#endif
