#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what config.json files mean to transformers and to moekit: every default, and the edges of every key.

usage: configs.py MODEL_FIGURES DIR

For each family: a config of nothing but model_type; a small one without each of its keys in turn; and with each of
EDGES. Of each, transformers' figures are those of its config class and of the modules that it builds from it (without
memory); moekit's are what MODEL_FIGURES (t/lib/model-figures.c) prints. They must be equal, or both refuse. Prints a
line for each difference that LENIENT and STRICT do not have, then how many configs were looked at. Exit 0: none.
"""
import json
import logging
import os
import subprocess
import sys
import warnings

import torch
import transformers

# moekit reads what this transformers refuses: why that is right.
LENIENT = {
    "null": "earlier releases wrote null for what is absent, and took it as that",
    "integer": "an integer where the class wants a fraction: JSON has one kind of number, and people write 0 and 1",
    "dtype": "'torch.bfloat16' is how some tools write it",
}
# moekit refuses, naming the key, what transformers builds.
STRICT = {
    "no moe": "no layer has experts: nothing here is for such a model",
    "empty": "no layers, no experts or none chosen: it does not compute",
    "cannot run": "the modules are built, and fail with the first token",
    "two spellings": "two keys for one figure that disagree: transformers takes one of them without a word",
    "clip": "a clip of less than nothing",
}

SMALL = dict(vocab_size=97, hidden_size=64, num_hidden_layers=3, num_attention_heads=16, num_key_value_heads=2,
             num_experts_per_tok=2, max_position_embeddings=128, initializer_range=0.1, hidden_act="silu",
             rms_norm_eps=1e-4, tie_word_embeddings=True, router_aux_loss_coef=0.5, attention_dropout=0.0,
             rope_theta=5e5, dtype="bfloat16")
FAMILIES = {
    "mixtral": dict(SMALL, num_local_experts=8, intermediate_size=40, head_dim=16, sliding_window=64,
                    router_jitter_noise=0.0),
    "qwen2_moe": dict(SMALL, num_experts=8, intermediate_size=72, moe_intermediate_size=24, head_dim=16,
                      shared_expert_intermediate_size=56, qkv_bias=False, norm_topk_prob=True, decoder_sparse_step=2,
                      mlp_only_layers=[0], use_sliding_window=True, sliding_window=64, max_window_layers=2,
                      layer_types=["full_attention", "sliding_attention", "full_attention"]),
    "qwen3_moe": dict(SMALL, num_experts=8, intermediate_size=72, moe_intermediate_size=24, head_dim=16,
                      norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[0], attention_bias=True,
                      use_sliding_window=True, sliding_window=64),
    "olmoe": dict(SMALL, num_experts=8, intermediate_size=24, head_dim=4, clip_qkv=0.9, attention_bias=True,
                  norm_topk_prob=True),
    "glm4_moe": dict(SMALL, n_routed_experts=32, n_shared_experts=2, head_dim=16, intermediate_size=72,
                     moe_intermediate_size=24, first_k_dense_replace=2, n_group=2, topk_group=1, norm_topk_prob=False,
                     routed_scaling_factor=1.5, attention_bias=True, use_qk_norm=True, partial_rotary_factor=0.25),
}
DENSE = {k: v for k, v in SMALL.items() if k not in ("num_experts_per_tok", "router_aux_loss_coef")}
FAMILIES |= {
    "qwen3_next": dict(SMALL, num_hidden_layers=4, num_experts=8, intermediate_size=72, moe_intermediate_size=24,
                       shared_expert_intermediate_size=56, head_dim=16, norm_topk_prob=False, decoder_sparse_step=1,
                       mlp_only_layers=[1], attention_bias=True, partial_rotary_factor=0.5, linear_num_key_heads=2,
                       linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=12, linear_conv_kernel_dim=3,
                       full_attention_interval=2),
    "deepseek_v2": dict(SMALL, num_key_value_heads=16, n_routed_experts=32, n_shared_experts=1, intermediate_size=72,
                        moe_intermediate_size=24, first_k_dense_replace=2, n_group=2, topk_group=1, routed_scaling_factor=1.5,
                        topk_method="group_limited_greedy", attention_bias=True, mlp_bias=True, kv_lora_rank=20,
                        q_lora_rank=28, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12),
    "deepseek_v3": dict(SMALL, num_key_value_heads=16, n_routed_experts=32, n_shared_experts=2, intermediate_size=72,
                        moe_intermediate_size=24, first_k_dense_replace=2, n_group=2, topk_group=1, routed_scaling_factor=1.5,
                        attention_bias=True, kv_lora_rank=20, q_lora_rank=28, qk_nope_head_dim=16, qk_rope_head_dim=8,
                        v_head_dim=12, norm_topk_prob=False, num_nextn_predict_layers=1),
    "gpt_oss": dict(SMALL, num_local_experts=8, intermediate_size=40, head_dim=16, sliding_window=64, attention_bias=False,
                    layer_types=["full_attention", "sliding_attention", "full_attention"]),
    "llama": dict(DENSE, intermediate_size=72, head_dim=16, attention_bias=True, mlp_bias=True),
    "qwen3": dict(DENSE, intermediate_size=72, head_dim=16, attention_bias=True, use_sliding_window=True,
                  sliding_window=64, max_window_layers=1,
                  layer_types=["full_attention", "sliding_attention", "full_attention"]),
}
# Keys without which the small config does not hold together: the default does not fit its other sizes.
WITHOUT = {
    ("qwen3", "num_key_value_heads"): "cannot run", ("qwen3_next", "num_experts_per_tok"): "cannot run",
    ("qwen3_next", "linear_num_key_heads"): "cannot run", ("deepseek_v2", "num_attention_heads"): "cannot run",
    ("deepseek_v3", "num_attention_heads"): "cannot run", ("deepseek_v3", "num_key_value_heads"): "cannot run",
    ("deepseek_v3", "first_k_dense_replace"): "no moe", ("deepseek_v3", "topk_group"): "cannot run",
}
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"

# (key, value, the entry of LENIENT or STRICT or None); of all families that the key is of.
EDGES = [
    *[("rope_scaling", v, None) for v in (None, False, 0, 0.0, "", [], {}, "linear", 1, True, [1], {"rope_theta": 1e3})],
    *[("rope_parameters", v, None) for v in (None, {}, False, 0, "", [], "x", {"rope_theta": 7e3}, {"rope_type": "default"},
                                             {"rope_type": "default", "rope_theta": 3.5})],
    ("rope_theta", 10000, None), ("rope_theta", "1e4", None), ("rope_theta", None, "null"),
    *[(k, float(SMALL[k]), None) for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_experts_per_tok",
                                           "max_position_embeddings", "num_attention_heads", "num_key_value_heads")],
    ("num_hidden_layers", True, None), ("num_hidden_layers", "3", None), ("num_hidden_layers", None, None),
    ("num_hidden_layers", 0, "empty"), ("hidden_size", None, None), ("vocab_size", None, None),
    ("num_attention_heads", 0, "empty"), ("num_attention_heads", None, None),
    ("num_experts_per_tok", 0, "empty"), ("num_experts_per_tok", 9, "cannot run"), ("num_experts_per_tok", None, "null"),
    ("num_key_value_heads", 0, None), ("num_key_value_heads", 4, "cannot run"), ("num_key_value_heads", 1, "cannot run"),
    ("num_key_value_heads", 3, "cannot run"), ("hidden_size", 8, "cannot run"),
    ("rms_norm_eps", 1, "integer"), ("rms_norm_eps", "1e-6", None), ("rms_norm_eps", None, "null"),
    ("initializer_range", 0, "integer"), ("router_aux_loss_coef", None, "null"),
    ("attention_dropout", 0, "integer"), ("attention_dropout", None, "null"),
    ("attention_bias", False, None), ("attention_bias", None, "null"), ("attention_bias", 1, None),
    ("attention_bias", "true", None), ("qkv_bias", True, None), ("qkv_bias", None, "null"),
    ("tie_word_embeddings", False, None), ("tie_word_embeddings", None, "null"), ("tie_word_embeddings", 1, None),
    ("norm_topk_prob", None, "null"), ("norm_topk_prob", 1, None), ("norm_topk_prob", "yes", None),
    ("hidden_act", "swish", None), ("hidden_act", None, "null"),
    ("max_position_embeddings", None, "null"), ("intermediate_size", None, "null"), ("moe_intermediate_size", None, None),
    ("decoder_sparse_step", 0, None), ("decoder_sparse_step", None, "null"), ("decoder_sparse_step", 5, "no moe"),
    *[("mlp_only_layers", v, None) for v in (None, [], [2], [7], [-1], [2, 99], [1.0], ["1"], [True], {}, 1)],
    ("mlp_only_layers", [1], "no moe"),
    ("use_sliding_window", False, None), ("use_sliding_window", None, "null"), ("use_sliding_window", 1, None),
    ("sliding_window", None, None), ("sliding_window", 4, None), ("sliding_window", 4.0, None),
    ("layer_types", None, None), ("layer_types", [FULL], None), ("layer_types", [FULL, FULL, FULL], None),
    ("layer_types", [SLIDING] * 3, None), ("layer_types", {}, None),
    ("max_window_layers", 0, None), ("max_window_layers", None, "null"),
    ("num_experts", 0, "empty"), ("num_experts", None, None), ("n_routed_experts", None, None),
    ("shared_expert_intermediate_size", 0, None), ("shared_expert_intermediate_size", 1.0, None),
    ("shared_expert_intermediate_size", None, "null"), ("shared_expert_intermediate_size", -1, None),
    ("n_shared_experts", 0, None), ("n_shared_experts", 1.0, None), ("n_shared_experts", None, "null"),
    ("first_k_dense_replace", 0, None), ("first_k_dense_replace", 3, "no moe"), ("first_k_dense_replace", 9, "no moe"),
    ("first_k_dense_replace", None, "null"),
    ("n_group", 1, None), ("n_group", 0, "cannot run"), ("n_group", 3, "cannot run"), ("n_group", None, "null"),
    ("topk_group", 2, None), ("topk_group", 0, "cannot run"), ("topk_group", 3, "cannot run"),
    ("routed_scaling_factor", 1, "integer"), ("routed_scaling_factor", None, "null"),
    ("partial_rotary_factor", None, None), ("partial_rotary_factor", 1, None), ("partial_rotary_factor", 0, None),
    ("partial_rotary_factor", 0.45, None), ("use_qk_norm", False, None), ("use_qk_norm", None, "null"),
    ("clip_qkv", None, None), ("clip_qkv", 8, "integer"), ("clip_qkv", -1.0, "clip"),
    ("head_dim", 15, None), ("head_dim", 0, "empty"),
    ("dtype", "float32", None), ("dtype", None, None), ("dtype", "torch.bfloat16", "dtype"),
    ("num_local_experts", None, None),
    ("q_lora_rank", None, None), ("kv_lora_rank", 0, "empty"), ("qk_rope_head_dim", 7, "cannot run"), ("v_head_dim", 0, "empty"),
    ("topk_method", "greedy", None), ("topk_method", None, None), ("topk_method", "noaux_tc", "cannot run"),
    ("mlp_bias", False, None), ("mlp_bias", None, "null"),
    ("linear_num_value_heads", 2, None), ("linear_num_value_heads", 3, "cannot run"), ("linear_conv_kernel_dim", 1, None),
    ("full_attention_interval", 1, None), ("full_attention_interval", 3, None),
]
# Of one family alone: several keys at once.
MORE = [
    ("glm4_moe", dict(num_nextn_predict_layers=1), None), ("glm4_moe", dict(num_experts=3), None),
    ("glm4_moe", dict(num_local_experts=3), "two spellings"), ("glm4_moe", dict(head_dim=None), "null"),
    ("glm4_moe", dict(rope_parameters={"partial_rotary_factor": 0.5}), None),
    ("glm4_moe", dict(rope_parameters={"rope_theta": 2e4}), None),
    ("qwen2_moe", dict(num_local_experts=3), None), ("qwen3_moe", dict(num_local_experts=3), "two spellings"),
    ("mixtral", dict(num_experts=3), "two spellings"), ("olmoe", dict(num_local_experts=3), "two spellings"),
    ("mixtral", dict(attention_bias=True, clip_qkv=1.0, norm_topk_prob=False), None),
    ("mixtral", dict(partial_rotary_factor=0.5), None), ("mixtral", dict(head_dim=None), None),
    ("qwen3_moe", dict(torch_dtype="bfloat16", dtype=None), None),
    ("qwen3_moe", dict(torch_dtype="float32", dtype="bfloat16"), None),
    ("qwen3_moe", dict(intermediate_size=0, mlp_only_layers=[], decoder_sparse_step=1), None),
    ("olmoe", dict(head_dim=16), "cannot run"), ("olmoe", dict(num_key_value_heads=None), None),
    ("mixtral", dict(quantization_config={}), None),
    ("qwen3_next", dict(layer_types=[LINEAR, FULL, FULL, LINEAR]), None),
    ("deepseek_v2", dict(head_dim=98), None),
    ("gpt_oss", dict(rope_parameters=None, rope_theta=None), "null"),
]

def configs():
    """(family, what was changed, the config, the excuse or None)"""
    for family, small in FAMILIES.items():
        yield family, "nothing but model_type", {"model_type": family}, None
        yield family, "all keys", {"model_type": family, **small}, None
        for key in small:
            rest = {k: v for k, v in small.items() if k != key}
            wide = family == "olmoe" and key in ("hidden_size", "num_attention_heads") # its norm must be as wide as q
            excuse = "cannot run" if wide else WITHOUT.get((family, key))
            yield family, f"no {key}", {"model_type": family, **rest}, excuse
        if "head_dim" in small:
            rest = {k: v for k, v in small.items() if k != "head_dim"}
            if family != "olmoe":
                yield family, "no head_dim, hidden_size 70", {"model_type": family, **rest, "hidden_size": 70}, None
        for key, value, excuse in EDGES:
            if key in small or key in ("rope_scaling", "rope_parameters"):
                yield family, f"{key} {json.dumps(value)}", {"model_type": family, **small, key: value}, excuse
    for family, change, excuse in MORE:
        yield family, json.dumps(change), {"model_type": family, **FAMILIES[family], **change}, excuse


def theirs(directory):
    """transformers' figures, or (None, why)"""
    try:
        c = transformers.AutoConfig.from_pretrained(directory)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(c)
    except Exception as e: # whatever it is that a config makes it raise
        return None, f"{type(e).__name__}: {e}".replace("\n", " ")[:200]
    layers = model.model.layers
    attention = next((l.self_attn for l in layers if hasattr(l, "self_attn")), None)
    if not attention:
        return {"layers": 0}, None
    linear = next((l.linear_attn for l in layers if hasattr(l, "linear_attn")), None)
    router = lambda l: getattr(l.mlp, "gate", None) or getattr(l.mlp, "router", None)
    moe = [router(l) is not None for l in layers]
    first = next((l.mlp for l in layers if router(l)), None)
    gate = next((router(l) for l in layers if router(l)), None)
    dense = next((l.mlp for l in layers if not router(l)), None)
    shared = getattr(first, "shared_expert", None) or getattr(first, "shared_experts", None)
    norm = getattr(attention, "q_norm", None)
    kind = c.model_type
    types = getattr(c, "layer_types", None) or []
    listed = kind in ("qwen2_moe", "gpt_oss", "qwen3")
    sliding = getattr(c, "sliding_window", None) if not listed or SLIDING in types else None
    latent = hasattr(attention, "kv_b_proj")
    if latent:
        q = attention.q_proj or attention.q_b_proj
        head, value = attention.qk_head_dim, attention.v_head_dim
        kv, biased = c.num_key_value_heads, attention.kv_a_proj_with_mqa
    else:
        q, head, value = attention.q_proj, attention.head_dim, attention.head_dim
        kv, biased = attention.k_proj.out_features // head, q
    mlp = dense or shared
    mixers = [2 if hasattr(l, "linear_attn") else int(bool(sliding) and (not listed or types[i] == SLIDING))
              for i, l in enumerate(layers)]
    stacked = gate is not None and kind == "gpt_oss"
    grouped = kind != "deepseek_v2" or c.topk_method == "group_limited_greedy"
    # With the experts' three matrices for the two that the modules have there are as many numbers.
    return {
        "layers": len(layers), "hidden": c.hidden_size, "heads": c.num_attention_heads, "head_dim": head, "value_dim": value,
        "kv_heads": kv, "vocab": model.lm_head.out_features,
        "experts": gate.weight.shape[0] if first else 0, "top_k": c.num_experts_per_tok if first else 0,
        "expert_ffn": first.experts.down_proj.shape[1 if stacked else 2] if first else 0,
        "q_rank": getattr(c, "q_lora_rank", 0) or 0, "kv_rank": getattr(c, "kv_lora_rank", 0) or 0,
        "mlp_bias": int(bool(mlp) and mlp.down_proj.bias is not None), "mixer": mixers,
        "linear": [linear.num_k_heads, linear.num_v_heads, linear.head_k_dim, linear.head_v_dim, linear.conv_kernel_size]
                  if linear else None,
        "shared_ffn": shared.down_proj.in_features if shared else 0,
        "dense_ffn": dense.down_proj.in_features if dense else 0,
        "tied": int(model.lm_head.weight is model.model.embed_tokens.weight),
        "qkv_bias": int(biased.bias is not None), "o_bias": int(attention.o_proj.bias is not None),
        "qk_norm": 0 if norm is None else 1 if norm.weight.numel() == attention.head_dim else 2,
        "rotary_dim": 2 * model.model.rotary_emb.inv_freq.numel(), "sigmoid": int(kind in ("glm4_moe", "deepseek_v3")),
        "renormalise": int(bool(first) and kind != "deepseek_v2" and bool(kind in ("mixtral", "gpt_oss") or c.norm_topk_prob)),
        "groups": getattr(c, "n_group", 1) if first and grouped else 1 if first else 0,
        "top_groups": getattr(c, "topk_group", 1) if first and grouped else 1 if first else 0,
        "max_positions": c.max_position_embeddings, "window": sliding or 0,
        "bf16": int(c.dtype is torch.bfloat16), "clip_qkv": (getattr(c, "clip_qkv", 0) or 0) if kind == "olmoe" else 0,
        "rope_theta": c.rope_parameters["rope_theta"], "norm_eps": getattr(layers[0].input_layernorm, "variance_epsilon", None) or layers[0].input_layernorm.eps,
        "init_std": c.initializer_range, "route_scale": getattr(c, "routed_scaling_factor", 1) if first else 0,
        "aux_coef": getattr(c, "router_aux_loss_coef", 0) or 0, "moe": [int(x) for x in moe],
        "parameters": sum(p.numel() for p in model.parameters()) +
                      sum(b.numel() for n, b in model.named_buffers() if n.endswith("correction_bias")),
    }, None


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    helper, directory = sys.argv[1:]
    cases = list(configs())
    paths = []
    for i, (_, _, config, _) in enumerate(cases):
        os.makedirs(os.path.join(directory, str(i)), exist_ok=True)
        paths.append(os.path.join(directory, str(i), "config.json"))
        with open(paths[-1], "w") as f:
            json.dump(config, f)
    mine = subprocess.run([helper, *paths], capture_output=True, text=True).stdout.splitlines()
    if len(mine) != len(cases):
        sys.exit(f"{helper} printed {len(mine)} lines for {len(cases)} configs")
    bad, used, accepted = [], set(), 0
    for i, (family, what, _, excuse) in enumerate(cases):
        m, (t, why) = json.loads(mine[i]), theirs(os.path.dirname(paths[i]))
        accepted += t is not None
        wrong = None
        if t is None and "error" not in m:
            wrong = None if excuse in LENIENT else f"transformers refuses it ({why}), moekit does not"
        elif t is not None and "error" in m:
            wrong = None if excuse in STRICT else f"transformers accepts it, moekit says: {m['error']}"
        elif t is not None:
            # What transformers leaves None fails with the first token: moekit has something to plan with.
            different = [f"{k} is {t[k]}, moekit has {m[k]}" for k in t if t[k] != m[k]
                         and not (t[k] is None and k in ("top_k", "groups", "top_groups"))]
            wrong = "; ".join(different) or None
        if excuse and (t is None) == ("error" in m):
            excuse = None # of use in another family
        used.add(excuse)
        if wrong:
            bad.append(f"{family}, {what}: {wrong}")
    bad += [f"no config shows '{k}'" for k in [*LENIENT, *STRICT] if k not in used]
    for line in bad:
        print(line)
    print(f"{len(cases)} configs, {accepted} of them accepted by transformers, {len(bad)} differences")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
