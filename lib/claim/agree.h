/* SPDX-License-Identifier: MIT */
/* Which claims can hold together, and where.
 *
 * Claims on speed all say how long a step takes: with G sequences of s tokens a step in m microbatches, f(s, K)
 * operations a token, W ranks and the peak P of a precision,
 *
 *     step_s = x          microbatch_s = x:  m*x       sequences_per_s = x:  G/x
 *     tokens_per_s = x:  G*s/x                         mfu = x:  G*s*f(s, K)/(W*P*x)
 *
 * and no step is shorter than at the peak, mfu = 1. So each is a range of step times in a world: a sequence
 * length, a top-k and a precision. Claims agree in a world when their ranges meet; ranges that meet two by two
 * have a time that is in all of them. What a rank needs of memory, operations a token and an expert's capacity
 * depend on the world too: in each such a claim holds or not. What else the plan decides holds in all worlds
 * or in none, and what only a run decides binds nothing.
 *
 * Worlds: lengths up to LONGEST in steps of 64 tokens (or what tp and cp divide), above 128 Ki in steps of a
 * two-thousandth; top-k from 1 to the number of experts, 64 at most; the precisions whose peak the cluster
 * knows. The layout and the batch stay. */
#ifndef CLAIM_AGREE_H
#define CLAIM_AGREE_H

#include "claim/judge.h"

enum { AGREE_MOST = 48, LONGEST = 1 << 20, TOP_K_MOST = 64 };

struct range_of {
    int64_t low, high; /* low > high: nowhere */
};

/* Where some claims hold together. */
struct places {
    struct range_of seq, top_k; /* at the plan's other two; then over all worlds: */
    struct range_of all_seq, all_top_k;
    unsigned precisions;            /* bits by enum precision; 0: nowhere */
    int64_t first_seq, first_top_k; /* the first of these worlds */
    enum precision first_precision;
};

struct subset {
    uint64_t claims; /* bits of agreement.bound */
    int count;       /* of them */
    struct places at;
};

struct agreement {
    int *bound; /* the claims that worlds decide, by number */
    int count;
    uint64_t speed;       /* those of them that say how long a step takes */
    double *low, *high;   /* [count] seconds a step at the plan's own world; NaN for others */
    double least_s;       /* a step at the peak there */
    uint64_t anywhere;    /* those that hold in some world */
    uint64_t *apart_here; /* [count] with which it cannot hold at the plan's own */
    struct places
        *pairs; /* [count][count] of those on speed, where two of them hold, the first index being less */
    struct subset *here; /* the largest that hold at the plan's own world, largest first; maximal ones alone */
    int here_count;
    struct subset *subsets; /* the same in any world */
    int subset_count;
};

/* p's predictions are those of its machine. -1 with error() (status 2): more than AGREE_MOST claims that worlds
 * decide. */
int claims_agree(struct agreement *a, const struct claims *c, const struct plan *p);
void agreement_release(struct agreement *a);

#endif
