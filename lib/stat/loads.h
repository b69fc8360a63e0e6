/* SPDX-License-Identifier: MIT */
/* The experts' loads: matrices in a log, which are far longer than the rest and so are read only when asked
 * for, of the steps that count. They are summed over the log, and over LOAD_BINS equal ranges of its steps. */
#ifndef STAT_LOADS_H
#define STAT_LOADS_H

#include "stat/steplog.h"

enum { LOAD_BINS = 32 };

/* Loads of one shape: that of the last of them, because a run that was resumed with other experts has begun
 * anew. In routed rows. */
struct loads {
    int layers, experts;    /* MoE layers; 0: the log has none */
    double *sum;            /* [layers][experts] over the log, or NULL */
    double *bin[LOAD_BINS]; /* [layers][experts] over a range of steps; all zeros where no step has loads */
    int64_t bin_first[LOAD_BINS + 1]; /* the first step of each range, and one past the last */
    size_t steps;                     /* records summed */
    size_t bad;                       /* records whose expert_load is no matrix of numbers */
    size_t other;                     /* and those of another shape */
};

/* 0, or -1 with error() set (a log cannot be read). None at all is no error. */
int loads_read(struct loads *l, struct steplog *log, int threads);
void loads_release(struct loads *l);

/* One layer's experts, by their loads over the log. Ratios are NaN where nothing was routed. */
struct layer_balance {
    double mean, std, cv, max_over_mean, min_over_mean; /* mean and std in rows; cv is std over mean */
    double entropy;                                     /* over that of even loads: 1 at best */
    double drift;               /* share of the loads that is elsewhere in the last quarter than in the first */
    int hottest, coldest, dead; /* experts, by number; how many got nothing */
};
void loads_layer(struct layer_balance *b, const struct loads *l, int layer);
/* The same of all layers together: means, but dead is a sum. */
void loads_balance(struct layer_balance *b, const struct loads *l);

#endif
