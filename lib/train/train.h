/* SPDX-License-Identifier: MIT */
/* A training run: options in, step log and checkpoints out. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include "base/error.h"
#include "comm/comm.h"
#include "train/options.h"

/* Runs. Every rank returns the same status, with error() set when it is neither DONE nor REQUEUE; on all ranks
 * but one the text is then empty. *comm is for the caller to close. *broken: a rank failed alone (inside
 * communication, say): the job must be aborted, not closed. */
enum status train_run(const struct train_options *o, struct comm **comm, bool *broken);

#endif
