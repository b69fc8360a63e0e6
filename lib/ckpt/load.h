/* SPDX-License-Identifier: MIT */
/* Reading weights and state. */
#ifndef CKPT_LOAD_H
#define CKPT_LOAD_H

#include "ckpt/state.h"

/* This rank's part of everything, read from a step directory that any plan wrote. A state that may come from
 * the weights (plan/states.h) is, where the checkpoint does not have it. state_json: text of state.json (caller
 * frees). Not collective. Checks sizes, dtypes and shapes (status 2). */
int checkpoint_load(const struct rank_state *s, const char *dir, char **state_json);
/* Weights only, from any HF directory of the same model (single file, sharded, or ours; f32, bf16 or f16; fused
 * experts mlp.experts.gate_up_proj/down_proj accepted). */
int checkpoint_import(const struct rank_state *s, const char *hfdir);

#endif
