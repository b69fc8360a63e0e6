/* SPDX-License-Identifier: MIT */
#include "choose/balancer.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

typedef long long ll;

int balancer_takes(const struct fleet *f, int64_t experts)
{
    if (f->devices % f->nodes)
        return error(STATUS_USAGE, "%lld devices do not divide over %lld nodes", (ll)f->devices, (ll)f->nodes);
    if (experts % f->groups)
        return error(STATUS_USAGE, "%lld experts do not divide into %lld groups", (ll)experts, (ll)f->groups);
    if (f->slots < experts)
        return error(STATUS_USAGE, "%lld slots do not hold %lld experts", (ll)f->slots, (ll)experts);
    if (f->slots % f->devices)
        return error(STATUS_USAGE, "%lld slots are not divisible by %lld devices; %lld would do", (ll)f->slots,
                     (ll)f->devices, (ll)round_up(f->slots, f->devices));
    return 0;
}

struct weighed {
    float weight;
    int64_t index;
};

static int falling(const void *a, const void *b)
{
    const struct weighed *x = a, *y = b;
    return x->weight != y->weight ? (x->weight < y->weight ? 1 : -1) : x->index < y->index ? -1 : 1;
}

/* Into pack[] and rank[] (its place in the pack) of each of n items; pack i takes room[i]. */
static void pack_items(const float *weight, int64_t n, int64_t packs, const int64_t *room, int64_t *pack,
                       int64_t *rank)
{
    struct weighed *order = xcalloc((size_t)n, sizeof *order);
    float *sum = xcalloc((size_t)packs, sizeof *sum);
    int64_t *held = xcalloc((size_t)packs, sizeof *held);
    for (int64_t i = 0; i < n; i++)
        order[i] = (struct weighed){weight[i], i};
    qsort(order, (size_t)n, sizeof *order, falling);
    for (int64_t k = 0; k < n; k++) {
        int64_t least = -1, i = order[k].index;
        for (int64_t p = 0; p < packs; p++)
            if (held[p] < room[p] && (least < 0 || sum[p] < sum[least]))
                least = p;
        pack[i] = least;
        rank[i] = held[least]++;
        sum[least] += weight[i];
    }
    free(held);
    free(sum);
    free(order);
}

static void pack_evenly(const float *weight, int64_t n, int64_t packs, int64_t *pack, int64_t *rank)
{
    int64_t *room = xcalloc((size_t)packs, sizeof *room);
    for (int64_t i = 0; i < packs; i++)
        room[i] = n / packs;
    if (n > packs)
        pack_items(weight, n, packs, room, pack, rank);
    for (int64_t i = 0; i < n && n == packs; i++) {
        pack[i] = i;
        rank[i] = 0;
    }
    free(room);
}

/* of[slots]: whose replica each is; count[n]: replicas of each. */
static void replicate(const float *weight, int64_t n, int64_t slots, int64_t *of, int64_t *count)
{
    for (int64_t i = 0; i < n; i++) {
        of[i] = i;
        count[i] = 1;
    }
    for (int64_t i = n; i < slots; i++) {
        int64_t most = 0;
        for (int64_t k = 1; k < n; k++)
            if (weight[k] / (float)count[k] > weight[most] / (float)count[most])
                most = k;
        of[i] = most;
        count[most]++;
    }
}

/* The experts in the order of nodes: each node's groups by their rank in its pack, then as they come. */
static void group_nodes(const struct fleet *f, int64_t experts, const float *weight, int64_t *order)
{
    int64_t each = experts / f->groups, per_node = f->groups / f->nodes;
    int64_t *pack = xcalloc((size_t)f->groups, sizeof *pack), *rank = xcalloc((size_t)f->groups, sizeof *rank);
    float *sum = xcalloc((size_t)f->groups, sizeof *sum);
    for (int64_t e = 0; e < experts; e++)
        sum[e / each] += weight[e];
    pack_evenly(sum, f->groups, f->nodes, pack, rank);
    for (int64_t e = 0; e < experts; e++)
        order[(pack[e / each] * per_node + rank[e / each]) * each + e % each] = e;
    free(sum);
    free(rank);
    free(pack);
}

/* One node's experts [n] into its slots, device by device. */
static void fill_node(int64_t n, const int64_t *expert, const float *weight, int64_t slots, int64_t devices,
                      int32_t *map)
{
    float *own = xcalloc((size_t)n, sizeof *own), *part = xcalloc((size_t)slots, sizeof *part);
    int64_t *of = xcalloc((size_t)slots, sizeof *of), *count = xcalloc((size_t)n, sizeof *count);
    int64_t *pack = xcalloc((size_t)slots, sizeof *pack), *rank = xcalloc((size_t)slots, sizeof *rank);
    for (int64_t i = 0; i < n; i++)
        own[i] = weight[expert[i]];
    replicate(own, n, slots, of, count);
    for (int64_t i = 0; i < slots; i++)
        part[i] = own[of[i]] / (float)count[of[i]];
    pack_evenly(part, slots, devices, pack, rank);
    for (int64_t i = 0; i < slots; i++)
        map[pack[i] * (slots / devices) + rank[i]] = (int32_t)expert[of[i]];
    free(rank);
    free(pack);
    free(count);
    free(of);
    free(part);
    free(own);
}

void balance_experts(const struct fleet *asked, int64_t experts, const double *load, int32_t *map)
{
    struct fleet f = *asked;
    if (f.groups % f.nodes)
        f.groups = f.nodes = 1;
    float *weight = xcalloc((size_t)experts, sizeof *weight);
    int64_t *order = xcalloc((size_t)experts, sizeof *order), n = experts / f.nodes, slots = f.slots / f.nodes;
    for (int64_t e = 0; e < experts; e++)
        weight[e] = (float)load[e];
    group_nodes(&f, experts, weight, order);
    for (int64_t i = 0; i < f.nodes; i++)
        fill_node(n, order + i * n, weight, slots, f.devices / f.nodes, map + i * slots);
    free(order);
    free(weight);
}

void place_greedy(int64_t devices, const int64_t *room, int64_t experts, const double *load, int32_t *map)
{
    float *weight = xcalloc((size_t)experts, sizeof *weight);
    int64_t *pack = xcalloc((size_t)experts, sizeof *pack), *rank = xcalloc((size_t)experts, sizeof *rank);
    int64_t *first = xcalloc((size_t)devices + 1, sizeof *first);
    for (int64_t e = 0; e < experts; e++)
        weight[e] = (float)load[e];
    for (int64_t i = 0; i < devices; i++)
        first[i + 1] = first[i] + room[i];
    pack_items(weight, experts, devices, room, pack, rank);
    for (int64_t e = 0; e < experts; e++)
        map[first[pack[e]] + rank[e]] = (int32_t)e;
    free(first);
    free(rank);
    free(pack);
    free(weight);
}
