/* SPDX-License-Identifier: MIT */
/* One truth for all ranks: rank 0 reads and decides, the others are told, and whoever sees anything for
 * itself compares. All of these are collective over the job, and return -1 on all ranks when any has failed
 * (run_agree()). */
#ifndef TRAIN_TRUTH_H
#define TRAIN_TRUTH_H

#include "train/run.h"

/* comm_share_text() of the run. */
int truth_send(struct run *run, int r, char **text, size_t *bytes);
/* The options that this rank was started with must be rank 0's; then run->o has rank 0's paths: absolute,
 * but on rank 0. */
int truth_options(struct run *run);
/* Lines "KEY: VALUE". Each of `mine` must be one of rank 0's text; `both`: and the other way round. `what`
 * is for the error, which names the first that differs, with both values and both hosts. r: whether this
 * rank got its text. */
int truth_compare(struct run *run, int r, const char *what, const char *mine, bool both);
/* Rank 0's text instead of one's own: each line of `mine` must be one of `rank0`. Not collective. */
int truth_within(struct run *run, const char *what, const char *mine, const char *rank0);

#endif
