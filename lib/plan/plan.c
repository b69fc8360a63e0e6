/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include <math.h>
#include <stdlib.h>

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
    free(p->expert_slot);
    free(p->made_by);
    inventory_release(&p->inventory);
    model_release(&p->model);
    *p = (struct plan){0};
}

const struct plan_group *plan_group_of(const struct plan *p, enum group_kind kind, int rank)
{
    if (rank < 0 || rank >= p->world)
        return NULL;
    int i = p->group_index[(int64_t)kind * p->world + rank];
    return i < 0 ? NULL : &p->groups[i];
}

int64_t plan_expert_capacity(const struct plan *p, int64_t tokens)
{
    if (!(p->routing.capacity > 0))
        return 0;
    double mean = (double)(tokens * p->model.top_k) / (double)p->model.experts;
    return (int64_t)ceil(mean * p->routing.capacity);
}
