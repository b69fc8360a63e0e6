/* SPDX-License-Identifier: MIT */
/* A plan for exactly what was asked: `moe-partition plan`. */
#ifndef CHOOSE_MAKE_H
#define CHOOSE_MAKE_H

#include "base/words.h"
#include "plan/plan.h"

/* What a plan is asked to be. 0 / negative / NULL means: derive it or take the default. */
struct request {
    const char *model;   /* --model, or NULL when the strategy names one */
    const char *cluster; /* preset or JSON; NULL: local */
    const char *strategy;
    int64_t world;
    struct axes axes; /* 0: derived or 1 */
    /* Layers of each virtual stage, "4,3,4,5"; "auto": costs balanced; NULL: even, the first ones one more. */
    const char *split;
    struct batch batch;     /* microbatches is not looked at */
    struct routing routing; /* lambda 0: default; the words come from scope and drop */
    /* Words of the options; NULL: the config's, none, by vpp, microbatch, prob, alltoall, off, f32, f32. */
    const char *precision, *recompute, *schedule, *scope, *drop, *dispatcher, *overlap, *grad_dtype,
        *moment_dtype;
    int64_t zero;         /* -1: default 1 */
    int64_t bucket_bytes; /* 0: bucket_default() with overlap, else all at once */
    /* A plan whose model, machine (where no cluster is named), ranks, batch, routing and precision are taken
     * where nothing else is asked for; how it lays them out is not. NULL: none. */
    const struct plan *like;
    const char *made_by; /* command line to note in the plan, or NULL */
};

extern const struct words strategy_words;

/* Makes the plan, predictions included. A request that cannot be met: -1, status 2, naming the rule, the
 * numbers and the nearest legal values. */
int plan_make(struct plan *p, const struct request *r);
/* Its halves, for who chooses in between (search.h): model, machine, axes, batch and words, the strategy's
 * filled into r; then, for what the plan's axes, batch and training say now, rules, stages, ranks, groups,
 * programs and predictions. After a failure what there is of the plan is the caller's to release. */
void request_like(struct request *r); /* takes what the plan that it is like has, as plan_start() does first */
int plan_start(struct plan *p, struct request *r);
int plan_finish(struct plan *p, const char *split, const char *made_by);

#endif
