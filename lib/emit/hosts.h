/* SPDX-License-Identifier: MIT */
/* The hosts of a job, for the forms that place ranks on them. */
#ifndef EMIT_HOSTS_H
#define EMIT_HOSTS_H

#include "plan/plan.h"

/* Nodes of the plan without ranks are no hosts of the job: host N is the N-th node that has some. */
struct host_map {
    int *of_rank; /* [world] */
    int count;
    int most;  /* ranks on the host that has most */
    bool even; /* all have as many, in the order of ranks */
};
void host_map_make(struct host_map *h, const struct plan *p);
void host_map_release(struct host_map *h);

#endif
