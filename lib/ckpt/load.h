/* SPDX-License-Identifier: MIT */
/* Reading weights and state. */
#ifndef CKPT_LOAD_H
#define CKPT_LOAD_H

#include <stdbool.h>

#include "ckpt/state.h"

/* This rank's part of everything, read from a step directory that any plan wrote. A state that may come from
 * the weights (plan/states.h) is, where the checkpoint does not have it. Not collective. Checks sizes,
 * dtypes and shapes (status 2), no checksums: sums.h. *seen (or NULL): hf_seen() of the files read; caller
 * frees. */
int checkpoint_load(const struct rank_state *s, const char *dir, char **seen);
/* Weights only, from any HF directory of the same model (single file, sharded, or ours; f32, bf16 or f16; fused
 * experts mlp.experts.gate_up_proj/down_proj accepted). */
int checkpoint_import(const struct rank_state *s, const char *hfdir, char **seen);
/* hf_seen() of every file that the one or (resume) the other may read. NULL with error() set. */
char *checkpoint_seen(const char *dir, bool resume);

#endif
