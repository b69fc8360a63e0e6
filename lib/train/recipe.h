/* SPDX-License-Identifier: MIT */
/* The recipe: what shapes the numbers of a run. */
#ifndef TRAIN_RECIPE_H
#define TRAIN_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/losses.h"

/* Kept in state.json; a resumed run takes them from there unless they are
 * given anew. */
struct recipe {
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip;
    double router_loss[ROUTER_LOSSES], bias_rate; /* coefficients, a rate; NaN: the config's */
    int64_t warmup, decay_steps, seed; /* decay_steps: length of wsd's last part; 0: a tenth of lr_steps */
    int64_t lr_steps;                  /* the schedule's horizon; 0: not settled */
    const char *lr_schedule;           /* constant cosine wsd */
    const char *shuffle;               /* yes no */
};
extern const struct recipe recipe_defaults;

/* The learning rate of `step` (from 1). Beyond the horizon it is what it ends with. */
double recipe_lr(const struct recipe *r, int64_t step);
/* The recipe as a JSON object (caller frees), and from that of state.json: fields that were not given on the
 * command line are taken; a given one that differs is announced. A recipe is a contract: a field or schedule
 * that is not known is refused, as the numbers would not be those of the run (-1, status 2). */
char *recipe_json(const struct recipe *r);
int recipe_restore(struct recipe *r, const struct json_doc *state);
/* What is left to say at a start of `steps` steps: what was given and does nothing; a horizon that nobody gave
 * is that. `resumed`: says what
 * the checkpoint did not have, and that steps lie beyond the horizon. */
void recipe_settle(struct recipe *r, int64_t steps, bool resumed);

#endif
