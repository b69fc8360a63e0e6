/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "plan/slots.h"

const char *const group_name[GROUP_KINDS + 1] = {"tp",  "cp",  "dp", "dp-cp", "ep",
                                                 "etp", "edp", "pp", "kv",    "embed"};

void plan_release(struct plan *p)
{
    for (int i = 0; i < p->group_count; i++)
        free(p->groups[i].ranks);
    for (int64_t i = 0; p->programs && i < p->axes.pp; i++)
        free(p->programs[i].ops);
    free(p->groups);
    free(p->group_index);
    free(p->programs);
    free(p->stages);
    free(p->ranks);
    slots_release(&p->slots);
    free(p->made_by);
    inventory_release(&p->inventory);
    model_release(&p->model);
    *p = (struct plan){0};
}

int64_t plan_layers_on(const struct plan *p, int pp)
{
    int64_t layers = 0;
    for (int v = 0; v < p->stage_count; v++)
        layers += p->stages[v].pp == pp ? p->stages[v].layers : 0;
    return layers;
}

const struct plan_group *plan_group_of(const struct plan *p, enum group_kind kind, int rank)
{
    if (rank < 0 || rank >= p->world)
        return NULL;
    int i = p->group_index[(int64_t)kind * p->world + rank];
    return i < 0 ? NULL : &p->groups[i];
}

static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

int plan_group_nodes(const struct plan *p, const struct plan_group *g)
{
    int n = 0, *node = xmalloc((size_t)g->size * sizeof *node);
    for (int i = 0; i < g->size; i++)
        node[i] = p->ranks[g->ranks[i]].node;
    qsort(node, (size_t)g->size, sizeof *node, by_value);
    for (int i = 0; i < g->size; i++)
        n += i == 0 || node[i] != node[i - 1];
    free(node);
    return n;
}

int64_t plan_expert_capacity(const struct plan *p, int64_t tokens)
{
    if (!(p->routing.capacity > 0) || !p->model.experts)
        return 0;
    double mean = (double)(tokens * p->model.top_k) / (double)p->model.experts;
    return (int64_t)ceil(mean * p->routing.capacity);
}
