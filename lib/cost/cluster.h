/* SPDX-License-Identifier: MIT */
/* The machine a plan is for: moe-cluster(5). */
#ifndef COST_CLUSTER_H
#define COST_CLUSTER_H

#include "plan/plan.h"

/* `what`: a JSON file, `-`, or the name of a preset; NULL: "local". What the file leaves open is filled in for
 * `world` ranks: ranks a node, and the memory of a CPU machine (this one's, shared evenly). 0 or -1 with
 * error(). */
int cluster_load(struct machine *m, const char *what, int64_t world);
/* The same of a preset alone: -1 where there is none of the name. */
int cluster_preset(struct machine *m, const char *name, int64_t world);
/* FLOP/s of a rank at this precision; 0: unknown. */
double machine_peak(const struct machine *m, enum precision precision);

#endif
