/* SPDX-License-Identifier: MIT */
/* Seconds of a step: layers (layer.h) summed over virtual stages, the plan's own schedule program played with
 * them (simulate.h), gradients summed, parameters updated. */
#ifndef COST_SECONDS_H
#define COST_SECONDS_H

#include "cost/layer.h"
#include "cost/simulate.h"
#include "plan/shard.h"

/* It rises when the formulas give other seconds for the same plan: plans name the one that gave theirs. */
enum { SECONDS_VERSION = 3 };
/* By how much they are off at worst, of the published runs (t/bench/published; moe-partition(1), Explain). */
#define SECONDS_ERROR 0.16

struct seconds {
    double step_s;
    /* These add up to step_s. Parts are those of the pipeline rank that computes longest. */
    double part_s[PARTS], idle_s, dp_s, optimizer_s;
    double pp_s;  /* one message between stages; its waits are in idle_s */
    int slowest;  /* that pipeline rank */
    double least; /* seconds that the pipeline rank with least to do computes */
};

/* With experts' loads of `lambda` on the worst rank, in every layer and microbatch. All NaN where the machine
 * has no rates. -1 with error() as plan_simulate(), or for a malformed efficiency. Takes time in proportion
 * to the schedule's operations and the layers. */
int plan_seconds(const struct plan *p, double lambda, struct seconds *out);

/* Which stage computes longest: of those that differ by rounding the first, in whatever order sums were
 * made. */
int busiest_stage(const double *busy_s, int stages);
/* The end of a step that takes span_s before: gradients summed over the replicas of the dense part and of the
 * experts, and the update, of a rank with these shards. Returns the whole step.
 *
 * With overlap *dp_s is what is awaited. Gradients are whole in the last microbatch's backward alone, weights
 * are needed from the first one's forward on; `beside` has the rank's seconds for one microbatch in all its
 * chunks. K buckets that become ready evenly over its backward of B seconds, and take R to be summed, are all
 * there by B/K + R, or B + R/K where B is more than R: max(R - B (K-1)/K, R/K) of it is awaited; so with the
 * gathers, forward. Weights that ZeRO-3 gathers for every layer are hidden by the whole step, but for a tenth.
 * Processors move and add what they send themselves, so that nothing hides it there. */
double update_seconds(const struct plan *p, const struct shards *s, const struct reach replicas[2],
                      double span_s, const struct stage_times *beside, double *dp_s, double *optimizer_s);

#endif
