/* SPDX-License-Identifier: MIT */
#include "choose/place.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/words.h"
#include "cost/links.h"
#include "cost/predict.h"
#include "plan/slots.h"
#include "plan/states.h"

static const char *const names[] = {"contiguous", "greedy", "hierarchical", NULL};
const struct words placement_words = WORDS(names);

/* ---- where they go ---- */

/* Nodes of an ep group when each has as many of its ranks, one after the other; else 1. */
static int64_t nodes_of_group(const struct plan *p)
{
    const struct plan_group *g = plan_group_of(p, GROUP_EP, 0);
    int64_t nodes = g ? plan_group_nodes(p, g) : 1;
    if (!g || g->size % nodes)
        return 1;
    for (int i = 0; i < g->size; i++)
        if (p->ranks[g->ranks[i]].node != p->ranks[g->ranks[i - i % (g->size / nodes)]].node)
            return 1;
    return nodes;
}

struct fleet fleet_of(const struct plan *p, int64_t slots)
{
    return (struct fleet){.slots = slots ? slots : p->model.experts,
                          .groups = p->model.groups,
                          .nodes = nodes_of_group(p),
                          .devices = p->axes.ep};
}

/* One layer: map [f->slots], and how many of them each ep rank has. */
static void place_layer(const double *load, int64_t experts, enum placement how, const struct fleet *f,
                        int32_t *map, int64_t *room)
{
    for (int64_t i = 0, first; i < f->devices; i++)
        even_part(f->slots, f->devices, i, &first, &room[i]);
    if (how == PLACE_HIERARCHICAL)
        balance_experts(f, experts, load, map);
    else if (how == PLACE_GREEDY)
        place_greedy(f->devices, room, experts, load, map);
    for (int64_t e = 0; e < experts && how == PLACE_CONTIGUOUS; e++)
        map[e] = (int32_t)e;
}

int place_takes(enum placement how, const struct fleet *f, int64_t experts)
{
    if (how == PLACE_HIERARCHICAL)
        return balancer_takes(f, experts);
    if (f->slots == experts)
        return 0;
    return error(STATUS_USAGE,
                 "%s takes a slot for each of the %lld experts, not %lld; hierarchical takes more", names[how],
                 (long long)experts, (long long)f->slots);
}

int place_experts(struct plan *p, const struct load_table *t, enum placement how, const struct fleet *f)
{
    const struct model *m = &p->model;
    TRY(place_takes(how, f, m->experts));
    struct expert_place *list = xcalloc((size_t)(m->moe_layers * f->slots), sizeof *list);
    int32_t *map = xcalloc((size_t)f->slots, sizeof *map);
    int64_t *room = xcalloc((size_t)f->devices, sizeof *room), count = 0;
    const double *load = t->load;
    for (int l = 0; l < m->layers; l++) {
        if (!m->moe[l])
            continue;
        place_layer(load, m->experts, how, f, map, room);
        load += m->experts;
        const int32_t *next = map;
        for (int ep = 0; ep < f->devices; ep++)
            for (int64_t k = 0; k < room[ep]; k++)
                list[count++] = (struct expert_place){l, ep, *next++};
    }
    slots_set(p, list, count);
    free(room);
    free(map);
    free(list);
    return plan_predict(p);
}

/* ---- how even that is ---- */

/* How many slots of a layer each expert has. */
static void count_copies(const struct plan *p, int layer, int64_t *copies)
{
    memset(copies, 0, (size_t)p->model.experts * sizeof *copies);
    for (int64_t s = 0; s < plan_layer_slots(p, layer); s++)
        copies[plan_slot_expert(p, layer, s)]++;
}

static double layer_evenness(const struct plan *p, int layer, const double *load, const int64_t *copies)
{
    double most = 0, all = 0;
    for (int64_t ep = 0; ep < p->axes.ep; ep++) {
        int64_t first, count = plan_slots(p, layer, ep, &first);
        double sum = 0;
        for (int64_t s = first; s < first + count; s++) {
            int e = plan_slot_expert(p, layer, s);
            sum += load[e] / (double)copies[e];
        }
        most = fmax(most, sum);
        all += sum;
    }
    return most * (double)p->axes.ep / all;
}

struct evenness place_evenness(const struct plan *p, const struct load_table *t)
{
    struct evenness v = {0};
    int64_t *copies = xcalloc((size_t)p->model.experts, sizeof *copies);
    const double *load = t->load;
    for (int l = 0; l < p->model.layers; l++) {
        if (!p->model.moe[l])
            continue;
        count_copies(p, l, copies);
        double x = layer_evenness(p, l, load, copies);
        load += p->model.experts;
        v.mean += x / (double)p->model.moe_layers;
        if (x > v.worst) {
            v.worst = x;
            v.layer = l;
        }
    }
    free(copies);
    return v;
}

/* ---- what it takes ---- */

/* Elements of one expert of the layer. */
static int64_t expert_elements(const struct plan *p, int layer)
{
    struct tensor t;
    int64_t n = 0;
    for (int k = T_INPUT_NORM; k < T_FINAL_NORM; k++)
        if (inventory_tensor(&p->model, k, layer, &t) && (t.stack || t.expert >= 0))
            n += t.rows * t.cols;
    return n;
}

static bool holds(const struct plan *p, int layer, int64_t ep, int expert)
{
    int64_t first, count = plan_slots(p, layer, ep, &first);
    for (int64_t s = first; s < first + count; s++)
        if (plan_slot_expert(p, layer, s) == expert)
            return true;
    return false;
}

/* What one ep rank of each stage gets, and sums: [pp][ep]. */
struct moved_rows {
    double *gets, *sums;
};

static void add_layer(const struct plan *from, const struct plan *to, int layer, struct moved_rows *x,
                      struct moves *m)
{
    const struct axes *a = &to->axes;
    double n = (double)expert_elements(to, layer), replicas = to->training.zero ? (double)a->edp : 1;
    double each = n / (double)a->etp * ((double)plan_type_bytes(to) + plan_state_bytes(to) / replicas);
    int64_t *copies = xcalloc((size_t)to->model.experts, sizeof *copies);
    count_copies(to, layer, copies);
    for (int64_t ep = 0; ep < a->ep; ep++) {
        int64_t first, count = plan_slots(to, layer, ep, &first), at = plan_layer_pp(to, layer) * a->ep + ep;
        for (int64_t s = first; s < first + count; s++) {
            int e = plan_slot_expert(to, layer, s);
            double others = (double)(copies[e] - 1) / (double)copies[e];
            x->sums[at] += 2 * others * n / (double)a->etp * (to->training.grad_bf16 ? 2 : 4);
            if (holds(from, layer, ep, e))
                continue;
            m->experts++;
            m->bytes += each * (double)(a->etp * a->edp);
            x->gets[at] += each;
        }
    }
    free(copies);
}

struct moves place_moves(const struct plan *from, const struct plan *to)
{
    struct moves m = {0};
    const struct reach ep = group_reach(to, GROUP_EP, 0);
    bool across = ep.ranks > ep.per_node;
    int64_t cells = to->axes.pp * to->axes.ep;
    struct moved_rows x = {xcalloc((size_t)cells, sizeof(double)), xcalloc((size_t)cells, sizeof(double))};
    for (int l = 0; l < to->model.layers; l++)
        if (to->model.moe[l])
            add_layer(from, to, l, &x, &m);
    for (int64_t i = 0; i < cells; i++) {
        m.rank_bytes = fmax(m.rank_bytes, x.gets[i]);
        m.sum_bytes = fmax(m.sum_bytes, x.sums[i]);
    }
    m.rank_s = m.rank_bytes > 0 ? message_s(&to->machine, across, m.rank_bytes) : 0;
    m.sum_s = m.sum_bytes > 0 ? message_s(&to->machine, across, m.sum_bytes) : 0;
    free(x.gets);
    free(x.sums);
    return m;
}
