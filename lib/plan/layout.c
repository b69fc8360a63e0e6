/* SPDX-License-Identifier: MIT */
#include "plan/layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"
#include "plan/axes.h"

struct generator {
    enum axis order[AXES];
    int64_t size[AXES], stride[AXES];
};

static void generator_init(struct generator *g, const struct axes *a,
                           void (*sizes)(const struct axes *, int64_t *))
{
    if (order_parse(a->order, g->order) < 0)
        abort(); /* the caller has checked it */
    sizes(a, g->size);
    for (int i = 0; i < AXES; i++)
        g->stride[i] = axis_stride(g->order, g->size, i);
}

static int coordinate(const struct generator *g, int rank, enum axis a)
{
    return (int)(rank / g->stride[a] % g->size[a]);
}

int layout_dense_rank(const struct axes *a, const struct coords *at)
{
    struct generator g;
    generator_init(&g, a, dense_sizes);
    return (int)(at->tp * g.stride[AXIS_TP] + at->cp * g.stride[AXIS_CP] + at->dp * g.stride[AXIS_DP] +
                 at->pp * g.stride[AXIS_PP]);
}

int layout_expert_rank(const struct axes *a, const struct coords *at)
{
    struct generator g;
    generator_init(&g, a, expert_sizes);
    return (int)(at->etp * g.stride[AXIS_TP] + at->ep * g.stride[AXIS_EP] + at->edp * g.stride[AXIS_DP] +
                 at->pp * g.stride[AXIS_PP]);
}

static void add_group(struct plan *p, enum group_kind kind, int index, int size, int *ranks)
{
    if ((p->group_count & (p->group_count - 1)) == 0)
        p->groups = xrealloc(p->groups, p->group_count ? 2 * p->group_count : 1, sizeof *p->groups);
    p->groups[p->group_count++] =
        (struct plan_group){.kind = kind, .index = index, .size = size, .ranks = ranks};
}

/* The rank with this index, mixed radix over the axes in the set (or, with `inside` false, over the others),
 * leftmost fastest. */
static int64_t spread(const struct generator *g, unsigned set, bool inside, int64_t index)
{
    int64_t rank = 0;
    for (int i = 0; i < AXES; i++) {
        enum axis a = g->order[i];
        if ((set >> a & 1) != inside)
            continue;
        rank += index % g->size[a] * g->stride[a];
        index /= g->size[a];
    }
    return rank;
}

static void add_groups(struct plan *p, enum group_kind kind, const struct generator *g, unsigned set)
{
    int64_t size = 1;
    for (int a = 0; a < AXES; a++)
        size *= set >> a & 1 ? g->size[a] : 1;
    for (int i = 0; i < p->world / size; i++) {
        int *ranks = xmalloc(size * sizeof *ranks);
        for (int k = 0; k < size; k++)
            ranks[k] = (int)(spread(g, set, false, i) + spread(g, set, true, k));
        add_group(p, kind, i, (int)size, ranks);
    }
}

/* tp groups cut into runs that hold the same key/value heads. */
static void add_kv_groups(struct plan *p, int groups)
{
    int heads = (int)p->model.kv_heads, share = (int)(p->axes.tp / heads);
    for (int i = 0, n = 0; i < groups; i++) {
        if (p->groups[i].kind != GROUP_TP)
            continue;
        for (int h = 0; h < heads; h++) {
            int *ranks = xmalloc(share * sizeof *ranks);
            memcpy(ranks, p->groups[i].ranks + h * share, share * sizeof *ranks);
            add_group(p, GROUP_KV, n++, share, ranks);
        }
    }
}

static void add_embed_groups(struct plan *p, int groups)
{
    for (int i = 0, n = 0; i < groups; i++) {
        const struct plan_group *g = &p->groups[i];
        if (g->kind != GROUP_PP)
            continue;
        int *ranks = xmalloc(2 * sizeof *ranks);
        ranks[0] = g->ranks[0];
        ranks[1] = g->ranks[g->size - 1];
        add_group(p, GROUP_EMBED, n++, 2, ranks);
    }
}

void layout_index(struct plan *p)
{
    int64_t n = (int64_t)GROUP_KINDS * p->world;
    p->group_index = xrealloc(p->group_index, n, sizeof *p->group_index);
    for (int64_t i = 0; i < n; i++)
        p->group_index[i] = -1;
    for (int i = 0; i < p->group_count; i++)
        for (int k = 0; k < p->groups[i].size; k++)
            p->group_index[(int64_t)p->groups[i].kind * p->world + p->groups[i].ranks[k]] = i;
}

void layout_make(struct plan *p)
{
    struct generator dense, expert;
    generator_init(&dense, &p->axes, dense_sizes);
    generator_init(&expert, &p->axes, expert_sizes);
    int64_t per_node = max64(p->machine.per_node, 1);
    p->ranks = xcalloc(p->world, sizeof *p->ranks);
    for (int r = 0; r < p->world; r++)
        p->ranks[r] = (struct coords){.node = (int)(r / per_node),
                                      .tp = coordinate(&dense, r, AXIS_TP),
                                      .cp = coordinate(&dense, r, AXIS_CP),
                                      .dp = coordinate(&dense, r, AXIS_DP),
                                      .etp = coordinate(&expert, r, AXIS_TP),
                                      .ep = coordinate(&expert, r, AXIS_EP),
                                      .edp = coordinate(&expert, r, AXIS_DP),
                                      .pp = coordinate(&dense, r, AXIS_PP)};
    add_groups(p, GROUP_TP, &dense, 1 << AXIS_TP);
    add_groups(p, GROUP_CP, &dense, 1 << AXIS_CP);
    add_groups(p, GROUP_DP, &dense, 1 << AXIS_DP);
    if (p->axes.cp > 1)
        add_groups(p, GROUP_DP_CP, &dense, 1 << AXIS_DP | 1 << AXIS_CP);
    add_groups(p, GROUP_EP, &expert, 1 << AXIS_EP);
    add_groups(p, GROUP_ETP, &expert, 1 << AXIS_TP);
    add_groups(p, GROUP_EDP, &expert, 1 << AXIS_DP);
    add_groups(p, GROUP_PP, &dense, 1 << AXIS_PP);
    int groups = p->group_count;
    if (p->axes.tp > p->model.kv_heads)
        add_kv_groups(p, groups);
    if (p->model.tied && p->axes.pp > 1)
        add_embed_groups(p, groups);
    layout_index(p);
}
