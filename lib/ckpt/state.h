/* SPDX-License-Identifier: MIT */
/* Checkpoints: a step directory is a Hugging Face model.
 *
 *   ROOT/step-00000100/
 *     config.json, model.safetensors.index.json
 *     dense.safetensors, expert-NNN.safetensors      weights, whole tensors, HF names
 *     optimizer/dense.safetensors, optimizer/expert-NNN.safetensors
 *                                                    NAME and a suffix: what the optimizer keeps of each
 *                                                    parameter (plan/states.h), f32
 *     plan.moe                                       the plan that wrote it
 *     state.json                                     step, data position, recipe
 *     algorithms.txt                                 of a run on GPUs: how its products are computed
 *     manifest.json                                  size and crc32 of every file, of every tensor
 *
 * Offsets follow from the inventory (map.h), so any plan can write and read any part. A writer gathers whole
 * rows from the ranks that hold them, through bounded buffers, and writes contiguous ranges. The directory is
 * written as ROOT/.step-00000100.tmp, synced, and renamed: one that has its final name is whole. */
#ifndef CKPT_STATE_H
#define CKPT_STATE_H

#include "backend.h"
#include "plan/plan.h"
#include "plan/shard.h"
#include "plan/states.h"

/* A rank's state, in device memory. Flat buffers as in shard.h; states are [sliced] f32, this rank's slices
 * back to back (the whole when zero is 0: every replica then holds the same). */
struct rank_state {
    const struct plan *plan;
    const struct shards *shards;
    int rank;
    const struct backend *be;
    struct stream *stream;
    void *weights[FLATS];    /* of the plan's type; FLAT_BUFFER: f32 */
    float *state[STATES][2]; /* those that the plan keeps, of FLAT_DENSE and FLAT_EXPERT */
    const char *companions;  /* NULL, or a directory (what was imported or resumed) whose small other files, the
                                tokenizer's say, travel along in saves */
};

#endif
