/* SPDX-License-Identifier: MIT */
/* Expert loads of a step: choices of every expert in every MoE layer, for the log and for the aux-free router
 * bias. */
#include "engine/loads.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/host.h"

static void add(void *into, const void *from, size_t bytes)
{
    float *x = into;
    const float *y = from;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] += y[i];
}

int loads_sum(struct engine *e)
{
    size_t count = (size_t)e->moe_layers * (size_t)e->E;
    if (fault("loads-local"))
        return 0;
    return host_all_reduce(e->group[GROUP_DP], e->totals.loads, count * sizeof(float), add);
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
        memcpy(all + layers[i] * e->E, e->totals.loads + i * e->E, row);
    int r = host_reduce(e->group[GROUP_PP], all, bytes, add);
    if (e->rank != 0)
        free(all);
    free(layers);
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
