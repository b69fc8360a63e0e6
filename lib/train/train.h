/* SPDX-License-Identifier: MIT */
/* A training run: options in, step log and checkpoints out. */
#ifndef TRAIN_TRAIN_H
#define TRAIN_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "comm/comm.h"

/* What shapes the numbers of a run. Kept in state.json; a resumed run takes them from there unless they are
 * given anew. */
struct recipe {
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip;
    double aux_loss, z_loss, bias_rate; /* coefficients; NaN: the config's */
    int64_t warmup, decay_steps, seed;  /* decay_steps: length of wsd's last part; 0: a tenth of the steps */
    const char *lr_schedule;            /* constant cosine wsd */
};
extern const struct recipe recipe_defaults;

struct train_options {
    const char *plan, *data, *init, *save, *resume, *log, *eval;
    int64_t steps, save_every, keep, eval_every, eval_steps, loads_every, threads;
    double timeout_s;
    const char *backend, *comm, *placement; /* auto…; check or warn */
    bool shuffle, dry_run;
    const char *dump_logits, *dump_gradients, *dump_routing; /* for tests */
    const char *command_line;
    struct recipe recipe;
};

/* The learning rate of `step` (from 1) of `steps`. */
double recipe_lr(const struct recipe *r, int64_t step, int64_t steps);
/* The recipe as a JSON object (caller frees), and from one: fields that were not given on the command line are
 * taken; a given one that differs is announced. */
char *recipe_json(const struct recipe *r);
int recipe_restore(struct recipe *r, const char *json_text, const char *where);

/* Runs. Every rank returns the same status, with error() set when it is neither DONE nor REQUEUE; on all ranks
 * but one the text is then empty. *comm is for the caller to close. *broken: a rank failed alone (inside
 * communication, say): the job must be aborted, not closed. */
enum status train_run(const struct train_options *o, struct comm **comm, bool *broken);

/* Signals: asks the run to stop after this step, checkpoint and return REQUEUE. Async-signal-safe. */
void train_request_stop(void);

#endif
