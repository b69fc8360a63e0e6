/* SPDX-License-Identifier: MIT */
/* What the command line asks of a run. */
#ifndef TRAIN_OPTIONS_H
#define TRAIN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "train/recipe.h"

struct train_options {
    const char *plan, *data, *init, *save, *resume, *log, *eval;
    int64_t steps, save_every, keep, eval_every, eval_steps, loads_every, threads;
    double timeout_s;
    const char *backend, *comm, *placement, *capture; /* auto…; check or warn; on or off */
    const char *overlap;                              /* on or off; NULL: as the plan says */
    const char *allow_config;                         /* keys, separated by commas */
    bool dry_run;
    const char *timeline;
    const char *dump_logits, *dump_gradients, *dump_routing; /* for tests */
    const char *command_line;
    const char *given;                              /* options_given() */
    void (*last_words)(const struct comm_fault *f); /* see comm_open_within() */
    struct recipe recipe;
};

#endif
