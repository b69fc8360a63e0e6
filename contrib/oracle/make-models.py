#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a tiny random model of each family as transformers saves it (config.json, model.safetensors, float32).

usage: make-models.py OUTDIR [FAMILY...] [--tied]

OUTDIR/FAMILY is one model; FAMILY is any of FAMILIES, by default all. The sizes are
awkward on purpose: a vocabulary that nothing divides, fewer key/value heads than heads, heads that are not
hidden/heads, dense layers between, a clip that bites. Weights are wide (std 0.1), so that no two experts nearly tie.
The same arguments give the same weights.

Prints for each its parameters and the number and CRC-32 of its tensors' names and shapes (sorted lines "NAME 97x48"),
which t/unit/model.c holds as golden values; MOEKIT_MODELS=OUTDIR makes that test compare with OUTDIR itself.
"""
import argparse
import json
import os
import struct
import zlib

import torch
import transformers

COMMON = dict(
    vocab_size=97,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_experts_per_tok=2,
    max_position_embeddings=128,
    initializer_range=0.1,
    output_router_logits=False,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)

FAMILIES = {
    "mixtral": dict(
        num_local_experts=8,
        intermediate_size=40,
        head_dim=16,
        router_aux_loss_coef=0.02,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
    "qwen2_moe": dict(
        num_experts=8,
        intermediate_size=72,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=56,
        qkv_bias=True,
        norm_topk_prob=False,
        rms_norm_eps=1e-6,
        router_aux_loss_coef=0.01,
    ),
    "qwen3_moe": dict(
        num_experts=8,
        num_attention_heads=6,
        head_dim=16,
        intermediate_size=72,
        moe_intermediate_size=24,
        mlp_only_layers=[1],
        attention_bias=True,
        norm_topk_prob=True,
        rms_norm_eps=1e-6,
        router_aux_loss_coef=0.01,
    ),
    "olmoe": dict(
        num_experts=8,
        num_experts_per_tok=4,
        intermediate_size=24,
        clip_qkv=0.9,
        attention_bias=True,
        norm_topk_prob=False,
        router_aux_loss_coef=0.01,
    ),
    "glm4_moe": dict(
        n_routed_experts=8,
        n_shared_experts=2,
        head_dim=16,
        intermediate_size=72,
        moe_intermediate_size=24,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
        norm_topk_prob=True,
        routed_scaling_factor=1.5,
        attention_bias=True,
        use_qk_norm=True,
        partial_rotary_factor=0.5,
        num_nextn_predict_layers=0,
    ),
    "qwen3_next": dict(
        num_hidden_layers=4,
        num_experts=8,
        head_dim=16,
        intermediate_size=72,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=40,
        mlp_only_layers=[1],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=12,
        attention_bias=True,
    ),
    "deepseek_v2": dict(
        num_key_value_heads=4,
        n_routed_experts=8,
        intermediate_size=72,
        moe_intermediate_size=24,
        kv_lora_rank=20,
        q_lora_rank=28,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=12,
        first_k_dense_replace=1,
        attention_bias=True,
        mlp_bias=True,
    ),
    "deepseek_v3": dict(
        num_key_value_heads=4,
        n_routed_experts=8,
        intermediate_size=72,
        moe_intermediate_size=24,
        kv_lora_rank=20,
        q_lora_rank=None,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=12,
        first_k_dense_replace=1,
        n_group=2,
        topk_group=1,
    ),
    "gpt_oss": dict(num_local_experts=8, head_dim=16, intermediate_size=40),
    "llama": dict(intermediate_size=72, attention_bias=True, mlp_bias=True),
    "qwen3": dict(head_dim=16, intermediate_size=72, attention_bias=True),
}


def randomise(model, generator):
    """What starts at 0 or 1 would hide a mistake: norms, biases and the router's correction get random values too."""
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("e_score_correction_bias"):
                p.copy_(0.1 * noise)
            elif name.endswith("norm.weight"):
                p.copy_(1 + 0.2 * noise)
            elif name.endswith((".bias", "_bias", ".sinks", ".A_log")):
                p.copy_(0.2 * noise)


def tensor_list(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    header.pop("__metadata__", None)
    return sorted(f"{name} {'x'.join(map(str, t['shape']))}\n" for name, t in header.items())


def make(family, directory, tied):
    config = transformers.AutoConfig.for_model(family, **{**COMMON, **FAMILIES[family], "tie_word_embeddings": tied})
    torch.manual_seed(sum(map(ord, family)))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(model, torch.Generator().manual_seed(1))
    model.save_pretrained(directory)
    tensors = tensor_list(os.path.join(directory, "model.safetensors"))
    print(f"{directory}: {sum(p.numel() for p in model.parameters())} parameters, "
          f"{len(tensors)} tensors, crc32 {zlib.crc32(''.join(tensors).encode()):08x}")


def main():
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir")
    parser.add_argument("family", nargs="*", help="default: all")
    parser.add_argument("--tied", action="store_true", help="lm_head shares the embedding")
    args = parser.parse_args()
    for family in args.family:
        if family not in FAMILIES:
            parser.error(f"unknown family '{family}', not one of {' '.join(FAMILIES)}")
    for family in args.family or FAMILIES:
        make(family, os.path.join(args.outdir, family), args.tied)


if __name__ == "__main__":
    main()
