/* SPDX-License-Identifier: MIT */
#include "plan/layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "plan/rules.h"

const char *const axis_name[AXES] = {"tp", "cp", "ep", "dp", "pp"};

int order_parse(const char *order, enum axis out[static AXES])
{
    bool seen[AXES] = {false};
    int n = 0;
    const char *p = order;
    for (;; p++) {
        size_t length = strcspn(p, "-");
        int a = 0;
        while (a < AXES && (strlen(axis_name[a]) != length || strncmp(axis_name[a], p, length) != 0))
            a++;
        if (a == AXES || seen[a])
            break;
        seen[a] = true;
        out[n++] = a;
        p += length;
        if (!*p)
            break;
    }
    if (n != AXES || *p || p[-1] == '-')
        return error(
            STATUS_USAGE,
            "rule axes-order: order '%s' must name tp, cp, ep, dp and pp once each, as in tp-cp-ep-dp-pp",
            order);
    return 0;
}

void dense_sizes(const struct axes *a, int64_t size[static AXES])
{
    size[AXIS_TP] = a->tp;
    size[AXIS_CP] = a->cp;
    size[AXIS_EP] = 1;
    size[AXIS_DP] = a->dp;
    size[AXIS_PP] = a->pp;
}

void expert_sizes(const struct axes *a, int64_t size[static AXES])
{
    size[AXIS_TP] = a->etp;
    size[AXIS_CP] = 1;
    size[AXIS_EP] = a->ep;
    size[AXIS_DP] = a->edp;
    size[AXIS_PP] = a->pp;
}

int64_t axis_stride(const enum axis order[static AXES], const int64_t size[static AXES], enum axis which)
{
    int64_t stride = 1;
    for (int i = 0; order[i] != which; i++)
        stride *= size[order[i]];
    return stride;
}

/* ---- deriving axes ---- */

static int64_t product(const int64_t *v, int n)
{
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        if (!mul_ok(all, v[i], &all) || all > MAX_WORLD)
            return MAX_WORLD + 1;
    return all;
}

/* The factors do not divide `world`: says so, and which single change would help. */
static int indivisible(const char *rule, const char *const names[3], const int64_t v[3], int64_t world)
{
    char help[120] = "";
    for (int i = 2; i >= 0 && !*help; i--) {
        int64_t others = v[(i + 1) % 3] * v[(i + 2) % 3];
        if (v[i] > 1 && world % others == 0) {
            char list[80];
            near_divisors(list, sizeof list, world / others, v[i]);
            snprintf(help, sizeof help, "; %s %s would", names[i], list);
        }
    }
    return error(STATUS_USAGE, "rule %s: %s %lld · %s %lld · %s %lld = %lld does not divide %lld ranks%s", rule,
                 names[0], (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2],
                 (long long)(v[0] * v[1] * v[2]), (long long)world, help);
}

/* *replicas = world / (a·b·c), or checks that the one given is that. */
static int derive_replicas(const char *rule, const char *const names[4], const int64_t v[3], int64_t *replicas,
                           int64_t world)
{
    int64_t p = product(v, 3);
    if (p > MAX_WORLD)
        return error(STATUS_USAGE, "rule %s: %s %lld · %s %lld · %s %lld is more than %d ranks", rule, names[0],
                     (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2], MAX_WORLD);
    if (world % p)
        return indivisible(rule, names, v, world);
    if (*replicas && *replicas != world / p)
        return error(STATUS_USAGE,
                     "rule %s: %s %lld · %s %lld · %s %lld · %s %lld is not %lld ranks; %s %lld would be", rule,
                     names[0], (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2], names[3],
                     (long long)*replicas, (long long)world, names[3], (long long)(world / p));
    *replicas = world / p;
    return 0;
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a;
}

int axes_derive(struct axes *a, int64_t *world)
{
    int64_t *const ones[] = {&a->tp, &a->cp, &a->etp, &a->ep, &a->pp, &a->vpp};
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        if (*ones[i] == 0)
            *ones[i] = 1;
    const int64_t dense[3] = {a->tp, a->cp, a->pp}, expert[3] = {a->etp, a->ep, a->pp};
    if (*world == 0) { /* the least that holds what was asked for */
        int64_t d = product((int64_t[]){a->tp, a->cp, max64(a->dp, 1)}, 3);
        int64_t e = product((int64_t[]){a->etp, a->ep, max64(a->edp, 1)}, 3);
        int64_t both = a->dp ? d : a->edp ? e : d / gcd(d, e) * e;
        *world = product((int64_t[]){both, a->pp}, 2);
    }
    if (*world > MAX_WORLD)
        return error(STATUS_USAGE, "rule axes-dense: more than %d ranks", MAX_WORLD);
    static const char *const dense_names[4] = {"tp", "cp", "pp", "dp"}, *const expert_names[4] = {"etp", "ep",
                                                                                                  "pp", "edp"};
    if (derive_replicas("axes-dense", dense_names, dense, &a->dp, *world) < 0)
        return -1;
    return derive_replicas("axes-expert", expert_names, expert, &a->edp, *world);
}

/* ---- coordinates and groups ---- */

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

static int at(const struct generator *g, int rank, enum axis a)
{
    return (int)(rank / g->stride[a] % g->size[a]);
}

static void add_group(struct plan *p, enum group_kind kind, int index, int size, int *ranks)
{
    if ((p->group_count & (p->group_count - 1)) == 0)
        p->groups = xrealloc(p->groups, p->group_count ? 2 * p->group_count : 1, sizeof *p->groups);
    p->groups[p->group_count++] = (struct plan_group){kind, index, size, ranks};
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
        p->ranks[r] = (struct coords){(int)(r / per_node),     at(&dense, r, AXIS_TP),  at(&dense, r, AXIS_CP),
                                      at(&dense, r, AXIS_DP),  at(&expert, r, AXIS_TP), at(&expert, r, AXIS_EP),
                                      at(&expert, r, AXIS_DP), at(&dense, r, AXIS_PP)};
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
