/* SPDX-License-Identifier: MIT */
/* Which experts of a model go. A config has one number of experts for all layers, so as many go in each; and in
 * each group, where a model routes to groups. */
#ifndef RECAST_DROPS_H
#define RECAST_DROPS_H

#include "model/model.h"

struct drops {
    bool *gone;            /* [layers][experts]; false in layers that are not MoE */
    int64_t experts, kept; /* of each MoE layer, before and after */
};

/* list: "3,8-9,2:5" as --drop-experts has it. loads: a file as `moe-stat --loads` prints it, or NULL: then the
 * list itself must be even. Where it is not, the least loaded ones go too, which is said. -1: status 2. */
int drops_choose(struct drops *d, const struct model *m, const char *list, const char *loads);
void drops_release(struct drops *d);
static inline bool drops_has(const struct drops *d, int layer, int64_t expert)
{
    return d->gone[layer * d->experts + expert];
}

#endif
