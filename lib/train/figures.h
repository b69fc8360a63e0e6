/* SPDX-License-Identifier: MIT */
/* What all ranks together say of a step. Ranks are many: nothing here is a table of them, and every figure is
 * one that follows from those of two halves of the job (comm/host.h). Sums of doubles are rounded as the tree
 * of comm/host.c adds them: the same in every run on so many ranks. */
#ifndef TRAIN_FIGURES_H
#define TRAIN_FIGURES_H

#include <stdint.h>

#include "comm/comm.h"
#include "engine/profile.h"

/* The most that any rank has, and the lowest rank that has it. */
struct most {
    double value;
    int64_t rank; /* -1: no rank was asked */
};

/* Of the whole step: seconds by phase, and bytes of memory by pipeline rank. What the device counts is in
 * engine/totals.h. */
struct figures {
    double overflow; /* layers × microbatches that needed several passes, each counted on one rank */
    double sum_s[PHASES], hidden_s[PHASES]; /* engine/profile.h */
    struct most phase_s[PHASES];
    struct most bytes[]; /* [pp] */
};
/* One rank's. Caller frees. */
struct figures *figures_new(int rank, const struct profile_times *t, int64_t bytes, int at_pp, int pp);
/* Collective. Everyone's become one, on rank 0; elsewhere *f is spoilt. */
int figures_reduce(struct group *world, struct figures *f, int pp);

#endif
