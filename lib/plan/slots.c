/* SPDX-License-Identifier: MIT */
#include "plan/slots.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"

static int32_t *first_of(const struct plan *p, int64_t layer)
{
    return p->slots.first + layer * (p->axes.ep + 1);
}

void slots_set(struct plan *p, const struct expert_place *list, int64_t count)
{
    struct slots *s = &p->slots;
    int64_t layers = p->model.layers, ep = p->axes.ep, E = p->model.experts;
    slots_release(s);
    s->first = xcalloc(layers * (ep + 1), sizeof *s->first);
    for (int64_t i = 0; i < count; i++)
        first_of(p, list[i].layer)[list[i].ep + 1]++;
    for (int64_t l = 0; l < layers; l++) {
        for (int64_t i = 0; i < ep; i++)
            first_of(p, l)[i + 1] += first_of(p, l)[i];
        s->most = (int)max64(s->most, first_of(p, l)[ep]);
    }
    s->expert = xmalloc(layers * s->most * sizeof *s->expert);
    s->of = xmalloc(layers * E * sizeof *s->of);
    for (int64_t i = 0; i < layers * s->most; i++)
        s->expert[i] = -1;
    for (int64_t i = 0; i < layers * E; i++)
        s->of[i] = -1;
    int32_t *next = xcalloc(layers * ep, sizeof *next);
    for (int64_t i = 0; i < count; i++) {
        int32_t slot = first_of(p, list[i].layer)[list[i].ep] + next[list[i].layer * ep + list[i].ep]++;
        int32_t *of = &s->of[list[i].layer * E + list[i].expert];
        s->expert[(int64_t)list[i].layer * s->most + slot] = list[i].expert;
        if (*of < 0 || *of > slot)
            *of = slot;
    }
    free(next);
}

void slots_set_even(struct plan *p)
{
    const struct model *m = &p->model;
    struct expert_place *list = xcalloc(m->moe_layers * m->experts, sizeof *list);
    int64_t count = 0;
    for (int l = 0; l < m->layers; l++)
        for (int e = 0; m->moe[l] && e < m->experts; e++)
            list[count++] = (struct expert_place){l, (int)even_index(m->experts, p->axes.ep, e), e};
    slots_set(p, list, count);
    free(list);
}

void slots_release(struct slots *s)
{
    free(s->first);
    free(s->expert);
    free(s->of);
    *s = (struct slots){0};
}

int64_t plan_slots(const struct plan *p, int64_t layer, int64_t ep, int64_t *first)
{
    int64_t count;
    if (!p->slots.first) {
        even_part(p->model.moe[layer] ? p->model.experts : 0, p->axes.ep, ep, first, &count);
        return count;
    }
    *first = first_of(p, layer)[ep];
    return first_of(p, layer)[ep + 1] - *first;
}

int64_t plan_layer_slots(const struct plan *p, int64_t layer)
{
    if (!p->model.moe[layer])
        return 0;
    return p->slots.first ? first_of(p, layer)[p->axes.ep] : p->model.experts;
}

int plan_layer_pp(const struct plan *p, int64_t layer)
{
    int v = 0;
    while (v < p->stage_count - 1 && layer >= p->stages[v].first + p->stages[v].layers)
        v++;
    return p->stages[v].pp;
}

int plan_slot_holder(const struct plan *p, int64_t layer, int64_t slot)
{
    const int32_t *first = first_of(p, layer);
    int low = 0, high = (int)p->axes.ep;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (first[middle] <= slot)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int64_t plan_most_slots(const struct plan *p)
{
    int64_t most = 0, first;
    if (!p->slots.first)
        return ceil_div(p->model.experts, p->axes.ep);
    for (int64_t l = 0; l < p->model.layers; l++)
        for (int64_t i = 0; i < p->axes.ep; i++)
            most = max64(most, plan_slots(p, l, i, &first));
    return most;
}

int64_t plan_least_slots(const struct plan *p)
{
    int64_t least = INT64_MAX, first;
    if (!p->slots.first || !p->model.moe_layers)
        return p->model.experts / p->axes.ep;
    for (int64_t l = 0; l < p->model.layers; l++)
        for (int64_t i = 0; i < p->axes.ep && p->model.moe[l]; i++)
            least = min64(least, plan_slots(p, l, i, &first));
    return least;
}

double plan_unevenness(const struct plan *p)
{
    double worst = 1;
    int64_t first;
    if (!p->slots.first && p->model.experts)
        return (double)(plan_most_slots(p) * p->axes.ep) / (double)p->model.experts;
    for (int64_t l = 0; l < p->model.layers; l++) {
        int64_t most = 0, all = plan_layer_slots(p, l);
        for (int64_t i = 0; i < p->axes.ep && all; i++)
            most = max64(most, plan_slots(p, l, i, &first));
        if (all && (double)(most * p->axes.ep) / (double)all > worst)
            worst = (double)(most * p->axes.ep) / (double)all;
    }
    return worst;
}

bool plan_slots_alike(const struct plan *p)
{
    return plan_most_slots(p) == plan_least_slots(p);
}

int64_t plan_replicas(const struct plan *p)
{
    return p->slots.first ? max64(0, p->slots.most - p->model.experts) : 0;
}
