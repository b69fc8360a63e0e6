/* SPDX-License-Identifier: MIT */
#include "cost/communicators.h"

#include <math.h>

#include "base/num.h"

enum { LINK_CHANNELS = 32, NET_CHANNELS = 2, RING_CHANNELS = 16, ALL_PEERS = 1 << 20 };
#define MiB            (1 << 20)
#define CONNECTION     ((int64_t)(10 + 2) * MiB)
#define POOL           ((int64_t)2 * LINK_CHANNELS * 16 * (MiB / 8))
#define TREE_PEERS     3
#define PIPELINE_PEERS 2

/* One communicator, in which a rank talks to so many at most. */
static int64_t bytes_of(struct reach g, int64_t peers, bool gathers)
{
    int64_t bytes = gathers ? RING_CHANNELS * CONNECTION : 0;
    if (g.ranks <= 1)
        return 0;
    if (g.per_node == g.ranks)
        return bytes + min64(g.ranks - 1, peers) * LINK_CHANNELS * CONNECTION;
    return bytes + min64(g.per_node - 1, peers) * NET_CHANNELS * CONNECTION + POOL;
}

/* n ranks of which neighbours are on one node, or all on different ones. */
static struct reach line_of(int64_t n, bool across)
{
    return (struct reach){n, across ? 1 : n};
}

int64_t communicator_bytes(const struct plan *p, const struct reaches *r)
{
    const struct axes *a = &p->axes;
    int64_t same_heads = a->tp / max64(1, min64(a->tp, p->model.kv_heads));
    const struct {
        struct reach of;
        int64_t peers;
        bool gathers;
    } kinds[] = {
        {{p->world, min64(p->world, p->machine.per_node)}, TREE_PEERS, false},
        {r->tp, ALL_PEERS, true},
        {r->cp, ALL_PEERS, true},
        {r->replicas[0], ALL_PEERS, true},
        {r->ep, ALL_PEERS, false},
        {r->etp, ALL_PEERS, true},
        {r->replicas[1], ALL_PEERS, true},
        {line_of(a->pp, r->across), PIPELINE_PEERS, false},
        {line_of(same_heads, same_heads > r->tp.per_node), ALL_PEERS, false},
        {line_of(p->model.tied && a->pp > 1 ? 2 : 1, r->across), 1, false},
    };
    int64_t bytes = 0;
    if (p->machine.device == DEVICE_CPU || p->world == 1)
        return 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        bytes += bytes_of(kinds[i].of, kinds[i].peers, kinds[i].gathers);
    return bytes;
}

int64_t plan_communicator_bytes(const struct plan *p)
{
    const struct plan_group *line = plan_group_of(p, GROUP_PP, 0);
    const struct reaches r = {
        .tp = group_reach(p, GROUP_TP, 0),
        .cp = group_reach(p, GROUP_CP, 0),
        .ep = group_reach(p, GROUP_EP, 0),
        .etp = group_reach(p, GROUP_ETP, 0),
        .replicas = {group_reach(p, p->axes.cp > 1 ? GROUP_DP_CP : GROUP_DP, 0), group_reach(p, GROUP_EDP, 0)},
        .across = line && line->size > 1 && p->ranks[line->ranks[1]].node != p->ranks[line->ranks[0]].node,
    };
    return communicator_bytes(p, &r);
}

double needed_bytes(const struct predict *x)
{
    return x->memory_bytes + (isnan(x->communicator_bytes) ? 0 : x->communicator_bytes);
}

bool plan_fits(const struct plan *p)
{
    return !(p->machine.memory_bytes > 0) || needed_bytes(&p->predict) <= p->machine.memory_bytes;
}

int64_t arena_room(const struct plan *p)
{
    return (int64_t)(p->machine.memory_bytes - (needed_bytes(&p->predict) - p->predict.memory_bytes));
}
