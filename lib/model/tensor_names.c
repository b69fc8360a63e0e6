/* SPDX-License-Identifier: MIT */
#include "model/tensor_names.h"

#include <stddef.h>

static const char *const common[TENSOR_KINDS] = {
    [T_EMBED] = "model.embed_tokens.weight",

    [T_INPUT_NORM] = "input_layernorm.weight",
    [T_Q] = "self_attn.q_proj.weight",
    [T_K] = "self_attn.k_proj.weight",
    [T_V] = "self_attn.v_proj.weight",
    [T_Q_BIAS] = "self_attn.q_proj.bias",
    [T_K_BIAS] = "self_attn.k_proj.bias",
    [T_V_BIAS] = "self_attn.v_proj.bias",
    [T_Q_NORM] = "self_attn.q_norm.weight",
    [T_K_NORM] = "self_attn.k_norm.weight",
    [T_O] = "self_attn.o_proj.weight",
    [T_O_BIAS] = "self_attn.o_proj.bias",
    [T_SINKS] = "self_attn.sinks",
    [T_Q_A] = "self_attn.q_a_proj.weight",
    [T_Q_A_BIAS] = "self_attn.q_a_proj.bias",
    [T_Q_A_NORM] = "self_attn.q_a_layernorm.weight",
    [T_Q_B] = "self_attn.q_b_proj.weight",
    [T_KV_A] = "self_attn.kv_a_proj_with_mqa.weight",
    [T_KV_A_BIAS] = "self_attn.kv_a_proj_with_mqa.bias",
    [T_KV_A_NORM] = "self_attn.kv_a_layernorm.weight",
    [T_KV_B] = "self_attn.kv_b_proj.weight",
    [T_LINEAR_DT_BIAS] = "linear_attn.dt_bias",
    [T_LINEAR_A_LOG] = "linear_attn.A_log",
    [T_LINEAR_CONV] = "linear_attn.conv1d.weight",
    [T_LINEAR_QKVZ] = "linear_attn.in_proj_qkvz.weight",
    [T_LINEAR_BA] = "linear_attn.in_proj_ba.weight",
    [T_LINEAR_NORM] = "linear_attn.norm.weight",
    [T_LINEAR_O] = "linear_attn.out_proj.weight",
    [T_POST_NORM] = "post_attention_layernorm.weight",

    [T_GATE] = "mlp.gate_proj.weight",
    [T_UP] = "mlp.up_proj.weight",
    [T_DOWN] = "mlp.down_proj.weight",
    [T_GATE_BIAS] = "mlp.gate_proj.bias",
    [T_UP_BIAS] = "mlp.up_proj.bias",
    [T_DOWN_BIAS] = "mlp.down_proj.bias",

    [T_ROUTER] = "mlp.gate.weight",
    [T_ROUTER_BIAS] = "mlp.gate.e_score_correction_bias",
    [T_ROUTER_TRAINED_BIAS] = "mlp.gate.bias",
    [T_SHARED_GATE] = "mlp.shared_expert.gate_proj.weight",
    [T_SHARED_UP] = "mlp.shared_expert.up_proj.weight",
    [T_SHARED_DOWN] = "mlp.shared_expert.down_proj.weight",
    [T_SHARED_SWITCH] = "mlp.shared_expert_gate.weight",
    [T_SHARED_GATE_BIAS] = "mlp.shared_expert.gate_proj.bias",
    [T_SHARED_UP_BIAS] = "mlp.shared_expert.up_proj.bias",
    [T_SHARED_DOWN_BIAS] = "mlp.shared_expert.down_proj.bias",
    [T_STACK_GATE_UP] = "mlp.experts.gate_up_proj",
    [T_STACK_GATE_UP_BIAS] = "mlp.experts.gate_up_proj_bias",
    [T_STACK_DOWN] = "mlp.experts.down_proj",
    [T_STACK_DOWN_BIAS] = "mlp.experts.down_proj_bias",
    [T_EXPERT_GATE] = "mlp.experts.#.gate_proj.weight",
    [T_EXPERT_UP] = "mlp.experts.#.up_proj.weight",
    [T_EXPERT_DOWN] = "mlp.experts.#.down_proj.weight",

    [T_FINAL_NORM] = "model.norm.weight",
    [T_HEAD] = "lm_head.weight",
};

const struct tensor_names names_common = {.own = {NULL}};

const struct tensor_names names_shared_experts = {
    .own =
        {
            [T_SHARED_GATE] = "mlp.shared_experts.gate_proj.weight",
            [T_SHARED_UP] = "mlp.shared_experts.up_proj.weight",
            [T_SHARED_DOWN] = "mlp.shared_experts.down_proj.weight",
            [T_SHARED_GATE_BIAS] = "mlp.shared_experts.gate_proj.bias",
            [T_SHARED_UP_BIAS] = "mlp.shared_experts.up_proj.bias",
            [T_SHARED_DOWN_BIAS] = "mlp.shared_experts.down_proj.bias",
        },
};

const struct tensor_names names_router = {
    .own =
        {
            [T_ROUTER] = "mlp.router.weight",
            [T_ROUTER_TRAINED_BIAS] = "mlp.router.bias",
        },
};

const struct tensor_names names_block_sparse_moe = {
    .own =
        {
            [T_ROUTER] = "block_sparse_moe.gate.weight",
            [T_EXPERT_GATE] = "block_sparse_moe.experts.#.w1.weight",
            [T_EXPERT_UP] = "block_sparse_moe.experts.#.w3.weight",
            [T_EXPERT_DOWN] = "block_sparse_moe.experts.#.w2.weight",
        },
};

const char *tensor_template(const struct tensor_names *names, enum tensor_kind kind)
{
    return names->own[kind] ? names->own[kind] : common[kind];
}
