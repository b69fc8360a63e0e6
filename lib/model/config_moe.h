/* SPDX-License-Identifier: MIT */
/* config.json's keys of MoE: experts, router, shared experts, which layers are MoE. 0 or -1 with error(). */
#ifndef MODEL_CONFIG_MOE_H
#define MODEL_CONFIG_MOE_H

#include "model/config_keys.h"

/* How many experts there are, and how wide one is. */
int config_experts(struct config *c);
/* All else; needs layers, experts, expert_ffn and dense_ffn (which becomes 0 when every layer is MoE). */
int config_moe(struct config *c);

#endif
