/* SPDX-License-Identifier: MIT */
/* Reading weights and state in one pass: what the ranks of a node want of a directory is read once there, by
 * ranges spread over them (load_units.h), checked against the manifest's sums while it passes, and sent to
 * those who want it. A rank takes some tens of MiB for it, whatever is loaded. */
#ifndef CKPT_LOAD_H
#define CKPT_LOAD_H

#include "ckpt/manifest.h"
#include "ckpt/state.h"
#include "comm/agree.h"

/* Collective over the job, as what follows: this rank's part of everything, from a step directory that any
 * plan wrote. A state that may come from the weights (plan/states.h) does, where the checkpoint does not have
 * it. `m`: its manifest, the same on all ranks, its sizes and its side files checked; every other byte is
 * checked here, also what this plan does not want. 0; 1 when something is damaged, on all ranks, with *h
 * saying what: what was loaded is then not to be believed; -1 with *agreed as comm_agree(): it is sound and
 * not what the plan wants (status 2), or cannot be read (status 3). A job of one process loads what s->rank of
 * any plan holds. */
int checkpoint_load(const struct rank_state *s, struct comm *c, const char *dir, const struct manifest *m,
                    struct heard *h, bool *agreed);
/* Weights only, from any HF directory of the same model (single file, sharded, or ours; f32, bf16 or f16;
 * fused experts mlp.experts.gate_up_proj/down_proj accepted). *places (or NULL): the files that hold them,
 * as this rank sees them: a line each with path, size, and what tells it from another of that name; caller
 * frees. */
int checkpoint_import(const struct rank_state *s, struct comm *c, const char *hfdir, char **places,
                      bool *agreed);
/* Not collective: hf_seen() of every file that an import may read, for ranks that do not see the same places.
 * NULL with error() set. */
char *checkpoint_seen(const char *hfdir);

#endif
