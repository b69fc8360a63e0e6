/* SPDX-License-Identifier: MIT */
/* Which experts of a model go. A config has one number of experts for all layers, so as many go in each; and in
 * each group, where a model routes to groups. */
#ifndef CHOOSE_DROPS_H
#define CHOOSE_DROPS_H

#include "model/model.h"

struct drops {
    bool *gone;            /* [layers][experts]; false in layers that are not MoE */
    int64_t experts, kept; /* of each MoE layer, before and after */
};

/* None go. -1 (status 2) where the model has no experts. */
int drops_init(struct drops *d, const struct model *m);
/* Once those to go are marked: sets `kept`. Where the layers do not lose as many the least loaded ones go too,
 * which is said, by `loads`, a file as `moe-stat --loads` prints it; NULL: they must lose as many. -1: status
 * 2. */
int drops_even(struct drops *d, const struct model *m, const char *loads);
void drops_release(struct drops *d);
/* "0-7:20-23,8:5": what --drop-experts reads as these. Caller frees. */
char *drops_text(const struct drops *d, const struct model *m);
static inline bool drops_has(const struct drops *d, int layer, int64_t expert)
{
    return d->gone[layer * d->experts + expert];
}

#endif
