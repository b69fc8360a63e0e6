/* SPDX-License-Identifier: MIT */
/* The files of a step directory (state.h) that are not Hugging Face's own. */
#ifndef CKPT_NAMES_H
#define CKPT_NAMES_H

#define PLAN_FILE       "plan.moe"
#define STATE_FILE      "state.json"
#define MANIFEST_FILE   "manifest.json"
#define ALGORITHMS_FILE "algorithms.txt" /* what a backend says of itself (backend.h); of a run on GPUs */
#define OPTIMIZER_DIR   "optimizer"

/* An archive's own members are in it (pack/index.h), and it is where tar -x leaves them. */
#define ARCHIVE_FOLDER ".moekit-archive"

#define MAX_STATE_BYTES      ((size_t)256 << 20) /* of a state.json */
#define MAX_MANIFEST_BYTES   ((size_t)1 << 30)
#define MAX_ALGORITHMS_BYTES ((size_t)16 << 20)

#endif
