/* SPDX-License-Identifier: MIT */
#include "cost/snapshot.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"
#include "cost/links.h"
#include "plan/shard.h"
#include "plan/slots.h"
#include "plan/states.h"

int64_t snapshot_bytes(const struct plan *p, int rank)
{
    const struct axes *a = &p->axes;
    int64_t weight = p->training.precision == PRECISION_F32 ? 4 : 2, kept = 0, dense = 0;
    struct shards own;
    for (int s = 0; s < STATES; s++)
        kept += plan_keeps(p, s) ? 4 : 0;
    shards_init(&own, p, rank);
    bool *here = xcalloc(p->model.layers, sizeof *here);
    for (int i = 0; i < own.count; i++) {
        const struct shard *h = &own.list[i];
        const struct tensor *t = &p->inventory.tensors[h->tensor];
        if (!h->second && t->expert < 0)
            dense += t->rows * t->cols * (h->flat == FLAT_BUFFER ? 4 : weight + kept);
        if (t->layer >= 0)
            here[t->layer] = true;
    }
    int64_t *groups = xcalloc(a->ep, sizeof *groups); /* experts' bytes of each of the pipeline rank */
    for (int i = 0; i < p->inventory.count; i++) {
        const struct tensor *t = &p->inventory.tensors[i];
        if (t->expert >= 0 && here[t->layer])
            groups[plan_slot_holder(p, t->layer, plan_layer_slot(p, t->layer, t->expert))] +=
                t->rows * t->cols * (weight + kept);
    }
    pour(groups, a->ep, dense);
    int64_t bytes = groups[p->ranks[rank].ep];
    free(groups);
    free(here);
    shards_release(&own);
    return ceil_div(bytes, a->etp * a->edp);
}

double save_seconds(const struct plan *p, int rank)
{
    return message_s(&p->machine, true, (double)snapshot_bytes(p, rank));
}

double save_interval_s(double save_s, double mtbf_s)
{
    return sqrt(2 * save_s * mtbf_s);
}

double save_lost_share(double save_s, double mtbf_s, double every_s)
{
    return save_s / every_s + every_s / (2 * mtbf_s);
}
