/* SPDX-License-Identifier: MIT */
/* Expert loads of a step: choices of every expert in every MoE layer, for the log and for the aux-free router
 * bias. */
#include "engine/loads.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/collective.h"
#include "comm/host.h"

static void add(void *into, const void *from, size_t bytes)
{
    float *x = into;
    const float *y = from;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] += y[i];
}

void loads_count(struct engine *e, int moe_index, const float *count)
{
    float *loads = e->arena.step->loads + moe_index * e->E;
    e->be->add(e->s, &OP(add, .count = e->E, .a = loads, .b = count, .y = loads, .type = F32));
}

int loads_sum(struct engine *e)
{
    if (fault("loads-local"))
        return 0;
    return tree_sum_f32(e->group[GROUP_DP], e->s, e->arena.step->loads, e->moe_layers * e->E);
}

/* MoE layers that pipeline rank pp holds, as indices among the model's MoE layers, in the order of
 * figures->loads. */
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

/* Rank 0 and those behind it in the pipeline add up tables of all layers, each with its own rows filled. */
int loads_collect(struct engine *e, float *loads)
{
    const struct plan *p = e->plan;
    if (e->at.tp || e->at.cp || e->at.dp)
        return 0;
    size_t row = (size_t)e->E * sizeof(float), bytes = (size_t)p->model.moe_layers * row;
    int *layers = xcalloc((size_t)p->model.moe_layers, sizeof *layers);
    int count = moe_layers_of(p, e->at.pp, layers);
    float *all = e->rank == 0 ? loads : xmalloc(bytes);
    memset(all, 0, bytes);
    for (int i = 0; i < count; i++)
        memcpy(all + layers[i] * e->E, e->figures->loads + i * e->E, row);
    int r = host_reduce(e->group[GROUP_PP], all, bytes, add);
    if (e->rank != 0)
        free(all);
    free(layers);
    return r;
}

void loads_update_bias(struct engine *e, double rate)
{
    if (e->shards.elements[FLAT_BUFFER] && rate != 0)
        e->be->balance(e->s, &OP(balance, .layers = e->shards.elements[FLAT_BUFFER] / e->E, .experts = e->E,
                                 .loads = e->arena.step->loads, .bias = e->arena.weights[FLAT_BUFFER],
                                 .rate = rate, .update = &e->arena.step->update));
}
