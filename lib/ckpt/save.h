/* SPDX-License-Identifier: MIT */
/* Writing a step directory (its shape: state.h). */
#ifndef CKPT_SAVE_H
#define CKPT_SAVE_H

#include "ckpt/state.h"
#include "comm/comm.h"

/* Collective over comm_world(c): every rank returns the same value. Saves the step; on failure (status 3)
 * nothing has the final name and nothing older is touched. state_json: text put into state.json (same on all
 * ranks). *bytes (or NULL): what was written by all ranks. */
int checkpoint_save(const struct rank_state *s, struct comm *c, const char *root, int64_t step,
                    const char *state_json, int64_t *bytes);
/* The gradients (flat f32 buffers, whole and summed; FLAT_BUFFER ignored) written as one HF-named directory for
 * tests and tools: dense.safetensors and expert files, f32. */
int checkpoint_save_gradients(const struct rank_state *s, struct comm *c, float *const gradients[2],
                              const char *dir);

#endif
