/* SPDX-License-Identifier: MIT */
/* A plan for what a loss has left: `moe-partition replan`.
 *
 * As it was, but for data parallelism. The ranks of a pipeline rank with one dp index are a block: tp·cp of
 * them, which hold one copy of its dense part. A block with a lost rank is out; of the others each pipeline
 * rank keeps as many as the one with fewest has, those of the same dp index together as before, and each rank
 * that goes on does so on its node, with its part of the dense model. The experts' axes are found anew for so
 * many ranks: etp as it was where that divides, and the ep that is nearest to what it was, whether or not it
 * divides the experts.
 *
 * Where a pipeline rank has no block left, or nothing of that kind fits in memory, all is found anew: tp and pp
 * at most what they were, blocks of tp·cp ranks of one node, in order. Of the layouts that fit the one with
 * most tokens a second.
 *
 *   tp 4, dp 16, pp 2, etp 4, ep 16 on 16 nodes of 8, 64 experts; rank 21 is lost (dp 5, first stage)
 *   ranks 20-23 are out, and 84-87, the block of the other stage that is one too many
 *   tp 4, dp 15, pp 2, etp 4, ep 15 on 120 ranks: 5 experts on four ep ranks, 4 on the others */
#ifndef CHOOSE_REPLAN_H
#define CHOOSE_REPLAN_H

#include "choose/drops.h"
#include "choose/lost.h"

enum { BATCH_AS_WAS = 0, BATCH_NEAREST = -1 };

struct replan_request {
    const struct plan *old;
    const struct lost *lost;
    /* The experts that lost ranks hold go, in the layers of their stage, and of the other layers as many: the
     * least loaded by this file or, without one, those of the same numbers. */
    bool drop;
    const char *loads;
    int64_t global; /* sequences a step, or one of the above */
    const char *made_by;
};

struct replanned {
    struct plan p;
    int *was;           /* [world]: which rank of the old plan each is */
    struct drops drops; /* gone NULL: no expert goes */
    bool unplaced;      /* experts were placed, and lie in order now */
    bool kept;          /* tp, cp, pp and stages are as they were: each rank has its part of the dense model */
    int64_t legal[4];   /* global batches around the one that was, two below and two above; 0: there is none */
    double fastest;     /* tokens a second of the ep that is predicted to be fastest; 0: not known */
    int64_t fastest_ep;
};

/* -1 with error() (status 2): nothing that fits, or the global batch is not legal, with those that are. */
int plan_replan(struct replanned *n, const struct replan_request *r);
void replanned_release(struct replanned *n);

#endif
