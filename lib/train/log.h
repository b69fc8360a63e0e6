/* SPDX-License-Identifier: MIT */
/* Writes the step log (format: stat/steplog.h, moe-steplog(5)). Rank 0 only. */
#ifndef TRAIN_LOG_H
#define TRAIN_LOG_H

#include <jansson.h>
#include <stdio.h>

#include "engine/engine.h"
#include "train/figures.h"
#include "train/options.h"

struct log {
    FILE *f;          /* NULL: a rank that does not write */
    const char *path; /* for messages */
};

/* Whether log_open() could open it; nothing is made. */
int log_check(const char *path);
/* Appends to path (NULL or "-": stdout), first ending a line that an earlier run left half written. */
int log_open(struct log *l, const char *path);
int log_close(struct log *l);
/* One line; takes `record` over. On disk when this returns, if it goes to a file. NULL (a record that could not
 * be made: base/json.h says of what) is an error. */
int log_write(struct log *l, json_t *record);
json_t *log_real(double x); /* null when not finite */

/* What all ranks say of a step, on rank 0. */
struct step_report {
    int64_t step, tokens;
    double loss, router_loss[ROUTER_LOSSES], grad_norm, lr, time_s;
    double dropped, overflow;
    const struct figures *all;
    const float *loads; /* [MoE layers of the model][E] choices of this step */
    bool with_loads;
};
json_t *log_start_record(const struct engine *e, const struct train_options *o, int64_t step, int threads,
                         int hosts);
json_t *log_step_record(const struct engine *e, const struct step_report *r);

#endif
