/* SPDX-License-Identifier: MIT */
/* A model with fewer experts. */
#ifndef RECAST_SHRINK_H
#define RECAST_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

struct shrink_request {
    const char *dir, *out;
    const char *drop;  /* --drop-experts: "3,8-9,2:5" */
    const char *loads; /* or NULL */
    bool dry_run;      /* choose and say; write nothing */
};

struct shrunk {
    int64_t experts, kept; /* of each MoE layer, before and after */
    int64_t bytes;         /* of the tensors written, or to be */
    bool step;
};

/* The experts that are left keep their order and are numbered anew; routers lose the rows of those that went,
 * and the optimizer its state of them. Of a step directory a step directory is made, of the same step, recipe
 * and line, from which a run goes on; its plan.moe is the old layout where that is still legal, else one for
 * one rank. Of another directory one like it, sharded anew. -1: status 2 or 3, and nothing is left. */
int shrink_dir(const struct shrink_request *r, struct shrunk *done);

#endif
