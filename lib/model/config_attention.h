/* SPDX-License-Identifier: MIT */
/* config.json's keys of attention: heads, biases, norms of q and k, RoPE, windows. */
#ifndef MODEL_CONFIG_ATTENTION_H
#define MODEL_CONFIG_ATTENTION_H

#include "model/config_keys.h"

/* Needs hidden, heads and max_positions. 0 or -1 with error(). */
int config_attention(struct config *c);

#endif
