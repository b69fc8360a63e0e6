/* SPDX-License-Identifier: MIT */
/* Checkpoints: a step directory is a Hugging Face model.
 *
 *   ROOT/step-00000100/config.json, model.safetensors.index.json, dense.safetensors, expert-NNN.safetensors
 * weights, whole tensors, HF names optimizer/dense.safetensors, optimizer/expert-NNN.safetensors NAME.master
 * (bf16 plans only), NAME.exp_avg, NAME.exp_avg_sq, f32 plan.moe (the plan that wrote it), state.json (step,
 * data position, options), manifest.json (size and crc32 of every file, of every tensor)
 *
 * Offsets follow from the inventory, so any plan can write and read any part. A writer gathers whole rows from
 * the ranks that hold them, through bounded buffers, and writes contiguous ranges. The directory is written as
 * ROOT/.step-00000100.tmp, synced, and renamed: one that has its final name is whole. */
#ifndef CKPT_CHECKPOINT_H
#define CKPT_CHECKPOINT_H

#include "backend.h"
#include "comm/comm.h"
#include "plan/plan.h"
#include "plan/shard.h"

/* A rank's state, in device memory. Flat buffers as in shard.h; slices are [slice] f32, this rank's ZeRO slice
 * (the whole when zero is 0: every replica then holds the same). master is NULL for FLAT_BUFFER, and in f32
 * plans, where the weights are the master. */
struct rank_state {
    const struct plan *plan;
    const struct shards *shards;
    int rank;
    const struct backend *be;
    struct stream *stream;
    void *weights[FLATS];                          /* of the plan's type; FLAT_BUFFER: f32 */
    float *master[2], *exp_avg[2], *exp_avg_sq[2]; /* FLAT_DENSE, FLAT_EXPERT */
    const char *companions; /* NULL, or a directory (what was imported or resumed) whose small other files, the
                               tokenizer's say, travel along in saves */
};

/* Collective over comm_world(c): every rank returns the same value. Saves the step; on failure (status 3)
 * nothing has the final name and nothing older is touched. state_json: text put into state.json (same on all
 * ranks). *bytes (or NULL): what was written by all ranks. */
int checkpoint_save(const struct rank_state *s, struct comm *c, const char *root, int64_t step,
                    const char *state_json, int64_t *bytes);
/* Keeps the newest `keep` whole step directories under root, removing the others (renamed first). Call on one
 * rank. */
int checkpoint_prune(const char *root, int keep);

/* The gradients (flat f32 buffers, whole and summed; FLAT_BUFFER ignored) written as one HF-named directory for
 * tests and tools: dense.safetensors and expert files, f32. */
int checkpoint_save_gradients(const struct rank_state *s, struct comm *c, float *const gradients[2],
                              const char *dir);

/* The newest whole step directory under root: its path (caller frees) and step; NULL with error status DONE
 * when there is none, -1-like error text otherwise. */
char *checkpoint_newest(const char *root, int64_t *step);

/* This rank's part of everything, read from a step directory that any plan wrote; the master is taken from the
 * weights where the checkpoint has none, and rounded to the weights. state_json: text of state.json (caller
 * frees). Not collective. Checks sizes, dtypes and shapes (status 2). */
int checkpoint_load(const struct rank_state *s, const char *dir, char **state_json);
/* Weights only, from any HF directory of the same model (single file, sharded, or ours; f32, bf16 or f16; fused
 * experts mlp.experts.gate_up_proj/down_proj accepted). */
int checkpoint_import(const struct rank_state *s, const char *hfdir);

#endif
