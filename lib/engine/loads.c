/* SPDX-License-Identifier: MIT */
/* Expert loads of a step: choices of every expert in every MoE layer, for the log and for the aux-free router
 * bias. */
#include "engine/loads.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int loads_sum(struct engine *e)
{
    struct group *dp = e->group[GROUP_DP];
    size_t count = (size_t)e->moe_layers * (size_t)e->E;
    if (group_size(dp) == 1 || count == 0 || fault("loads-local"))
        return 0;
    float *all = xmalloc(count * sizeof(float) * (size_t)group_size(dp));
    int r = host_gather(dp, e->totals.loads, all, count * sizeof(float));
    for (size_t i = 0; i < count && r == 0; i++) {
        e->totals.loads[i] = 0;
        for (int k = 0; k < group_size(dp); k++)
            e->totals.loads[i] += all[(size_t)k * count + i];
    }
    free(all);
    return r;
}

/* MoE layers that pipeline rank pp holds, as indices among the model's MoE layers, in the order of
 * totals.loads. */
static int moe_layers_of(const struct plan *p, int pp, int *list)
{
    int count = 0, index = 0;
    for (int l = 0; l < p->model.layers; l++) {
        if (!p->model.moe[l])
            continue;
        for (int v = 0; v < p->stage_count; v++) {
            const struct stage *s = &p->stages[v];
            if (s->pp == pp && l >= s->first && l < s->first + s->layers)
                list[count++] = index;
        }
        index++;
    }
    return count;
}

static int leader_of(const struct plan *p, int pp)
{
    for (int i = 0; i < p->world; i++) {
        const struct coords *c = &p->ranks[i];
        if (c->pp == pp && c->tp == 0 && c->cp == 0 && c->dp == 0)
            return i;
    }
    return -1;
}

int loads_collect(struct engine *e, float *loads)
{
    const struct plan *p = e->plan;
    struct group *world = comm_world(e->comm);
    int *layers = xcalloc((size_t)p->model.moe_layers + 1, sizeof *layers), r = 0;
    float *part = xcalloc((size_t)p->model.moe_layers * (size_t)e->E + 1, sizeof *part);
    for (int pp = 0; pp < p->axes.pp && r == 0; pp++) {
        int leader = leader_of(p, pp), count = moe_layers_of(p, pp, layers);
        size_t bytes = (size_t)count * (size_t)e->E * sizeof(float);
        if (e->rank == leader && leader != 0)
            r = comm_wait(host_send(world, 0, pp, e->totals.loads, bytes), NULL);
        if (e->rank != 0)
            continue;
        if (leader == 0)
            memcpy(part, e->totals.loads, bytes);
        else
            r = comm_wait(host_recv(world, leader, pp, part, bytes), NULL);
        for (int i = 0; i < count && r == 0; i++)
            memcpy(loads + (int64_t)layers[i] * e->E, part + (int64_t)i * e->E, (size_t)e->E * sizeof(float));
    }
    free(layers);
    free(part);
    return r;
}

int loads_update_bias(struct engine *e, double rate)
{
    int64_t count = e->shards.elements[FLAT_BUFFER];
    if (count == 0 || rate == 0)
        return 0;
    float *bias = xmalloc((size_t)count * 4);
    int r = e->be->download(e->s, bias, e->arena.weights[FLAT_BUFFER], (size_t)count * 4);
    for (int64_t l = 0; l < count / e->E && r == 0; l++) {
        const float *load = e->totals.loads + l * e->E;
        double mean = 0;
        for (int64_t i = 0; i < e->E; i++)
            mean += load[i] / (double)e->E;
        for (int64_t i = 0; i < e->E; i++)
            bias[l * e->E + i] += (float)(rate * ((mean > load[i]) - (mean < load[i])));
    }
    if (r == 0)
        e->be->upload(e->s, e->arena.weights[FLAT_BUFFER], bias, (size_t)count * 4);
    free(bias);
    return r;
}
