/* SPDX-License-Identifier: MIT */
/* The legal layouts: nodes, each with the number of its leaves. */
#include "choose/search_space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "plan/axes.h"
#include "plan/rules.h"
#include "plan/schedule.h"
#include "plan/split.h"

static bool holds(const struct plan *p, const char *id)
{
    char text[400];
    for (int i = 0; i < shape_rule_count; i++)
        if (strcmp(shape_rules[i].id, id) == 0)
            return shape_rules[i].check(p, text) != VERDICT_FAIL;
    return true;
}

/* All rules but those that ask for what a node or a leaf sets. */
static bool axes_hold(const struct plan *p)
{
    static const char *const later[] = {"axes-order", "axes-pipeline", "tokens-divide", "batch-divide",
                                        "schedule-fits"};
    char text[400];
    for (int i = 0; i < shape_rule_count; i++) {
        bool asked = true;
        for (size_t k = 0; k < sizeof later / sizeof *later; k++)
            asked = asked && strcmp(shape_rules[i].id, later[k]) != 0;
        if (asked && shape_rules[i].check(p, text) == VERDICT_FAIL)
            return false;
    }
    return true;
}

/* ---- what can be run through a pipeline ---- */

static bool wanted(int64_t fixed, int64_t value)
{
    return fixed == 0 || fixed == value;
}

static const struct ways *ways_of(struct layout_search *s, struct plan *p, int64_t layers)
{
    for (int i = 0; i < s->ways_count; i++) {
        const struct ways *w = &s->ways[i];
        if (w->pp == p->axes.pp && w->microbatches == p->batch.microbatches &&
            w->recompute == p->training.recompute)
            return w;
    }
    s->ways = xrealloc(s->ways, (size_t)s->ways_count + 1, sizeof *s->ways);
    struct ways *w = &s->ways[s->ways_count++];
    *w = (struct ways){p->axes.pp, p->batch.microbatches, p->training.recompute, NULL, 0};
    for (int64_t vpp = 1; vpp * p->axes.pp <= layers; vpp++)
        for (int k = 0; schedules[k].name && wanted(s->request.axes.vpp, vpp); k++) {
            if (s->request.schedule && strcmp(s->request.schedule, schedules[k].name) != 0)
                continue;
            if (p->axes.pp == 1 && !s->request.schedule && k != schedule_default(1))
                continue; /* without a pipeline they all are one after the other */
            p->axes.vpp = vpp;
            p->training.schedule = k;
            for (int automatic = 0; schedules[k].chunks == (vpp > 1) && automatic < 2; automatic++)
                if ((automatic ? s->splits.automatic : s->splits.even)[vpp * p->axes.pp] &&
                    holds(p, "schedule-fits")) {
                    w->list = xrealloc(w->list, (size_t)w->count + 1, sizeof *w->list);
                    w->list[w->count++] = (struct way){(int16_t)vpp, (int8_t)k, (int8_t)automatic};
                }
        }
    return w;
}

/* ---- nodes ---- */

void space_zeros(const struct layout_search *s, int *first, int *last)
{
    int only = (int)s->request.zero;
    *first = only >= 0 ? only : 0;
    *last = only >= 0 ? only : s->only_runnable ? 1 : 3;
}

static void add_node(struct layout_search *s, struct plan *p, int first_spread, enum recompute recompute)
{
    p->training.recompute = recompute;
    const struct ways *w = ways_of(s, p, p->model.layers);
    int spreads = s->spread_count - first_spread, first, last;
    space_zeros(s, &first, &last);
    if (!w->count)
        return;
    if ((s->node_count & (s->node_count - 1)) == 0)
        s->nodes = xrealloc(s->nodes, s->node_count ? 2 * (size_t)s->node_count : 1, sizeof *s->nodes);
    struct node *n = &s->nodes[s->node_count++];
    *n = (struct node){.axes = p->axes,
                       .micro = p->batch.micro,
                       .microbatches = p->batch.microbatches,
                       .recompute = recompute,
                       .first_spread = first_spread,
                       .spreads = spreads,
                       .ways = (int)(w - s->ways),
                       .leaves = (int64_t)spreads * w->count * (last - first + 1)};
    n->axes.vpp = 1;
    s->legal += n->leaves;
}

static void add_spreads(struct layout_search *s, const struct plan *p, int first)
{
    for (int i = 0; i < s->order_count; i++) {
        struct order_spread one;
        bool known = false;
        if (!spread_make(&one, p, &s->orders[i]))
            continue;
        for (int k = first; k < s->spread_count && !known; k++)
            known = spread_alike(&s->spreads[k], &one);
        if (known)
            continue;
        if ((s->spread_count & (s->spread_count - 1)) == 0)
            s->spreads =
                xrealloc(s->spreads, s->spread_count ? 2 * (size_t)s->spread_count : 1, sizeof *s->spreads);
        s->spreads[s->spread_count++] = one;
    }
}

static void add_axes(struct layout_search *s, struct plan *p)
{
    const struct request *r = &s->request;
    int64_t each = p->batch.global / p->axes.dp;
    int first = s->spread_count;
    if (p->batch.global % p->axes.dp || !axes_hold(p))
        return;
    add_spreads(s, p, first);
    for (int64_t micro = 1; micro <= each && s->spread_count > first; micro++) {
        if (each % micro || !wanted(r->batch.micro, micro))
            continue;
        p->batch.micro = micro;
        p->batch.microbatches = each / micro;
        if (!holds(p, "tokens-divide") || !holds(p, "batch-divide"))
            continue;
        for (int k = RECOMPUTE_NONE; k <= RECOMPUTE_FULL; k++)
            if (!r->recompute || strcmp(r->recompute, recompute_name[k]) == 0)
                add_node(s, p, first, k);
    }
}

/* The expert part's factors of one stage's ranks; ep that does not divide the experts only where it is asked
 * for. */
static void add_experts(struct layout_search *s, struct plan *p, int64_t ranks)
{
    const struct axes *want = &s->request.axes;
    int64_t most_ep = min64(ranks, max64(1, p->model.experts)), widest = max64(1, p->model.expert_ffn);
    for (int64_t ep = 1; ep <= most_ep; ep++)
        for (int64_t etp = 1; ranks % ep == 0 && wanted(want->ep, ep) && etp <= min64(widest, ranks / ep);
             etp++)
            if ((p->model.experts % ep == 0 || want->ep) && ranks / ep % etp == 0 && wanted(want->etp, etp)) {
                p->axes.ep = ep;
                p->axes.etp = etp;
                p->axes.edp = ranks / ep / etp;
                p->axes.vpp = 1;
                add_axes(s, p);
            }
}

static void add_dense(struct layout_search *s, struct plan *p, int64_t ranks)
{
    const struct axes *want = &s->request.axes;
    int64_t most_cp = s->only_runnable ? 1 : p->batch.seq;
    for (int64_t tp = 1; tp <= min64(ranks, p->model.heads); tp++)
        for (int64_t cp = 1; ranks % tp == 0 && wanted(want->tp, tp) && cp <= min64(most_cp, ranks / tp);
             cp++) {
            if (ranks / tp % cp || !wanted(want->cp, cp) || !wanted(want->dp, ranks / tp / cp))
                continue;
            p->axes.tp = tp;
            p->axes.cp = cp;
            p->axes.dp = ranks / tp / cp;
            p->axes.ep = p->axes.etp = 1;
            p->axes.edp = ranks;
            if (holds(p, "heads-divide") && holds(p, "kv-heads-divide")) /* before all experts' factors */
                add_experts(s, p, ranks);
        }
}

void space_enumerate(struct layout_search *s)
{
    struct plan p = s->base;
    for (int64_t pp = 1; pp <= min64(p.world, p.model.layers); pp++)
        if (p.world % pp == 0 && wanted(s->request.axes.pp, pp)) {
            p.axes.pp = pp;
            add_dense(s, &p, p.world / pp);
        }
}

/* ---- splits and orders, once ---- */

static struct stage *split_of(const struct layout_search *s, int64_t n, const char *split)
{
    struct plan p = s->base;
    p.stages = NULL;
    p.axes.pp = n;
    p.axes.vpp = 1;
    return split_make(&p, split) < 0 ? NULL : p.stages;
}

static bool same_split(const struct stage *a, const struct stage *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (a[i].layers != b[i].layers)
            return false;
    return true;
}

/* Whether some pipeline of these ranks has so many virtual stages. */
static bool stages_possible(const struct layout_search *s, int64_t n)
{
    for (int64_t pp = 2; pp <= n; pp++)
        if (n % pp == 0 && s->base.world % pp == 0)
            return true;
    return n == 1;
}

static int make_splits(struct layout_search *s)
{
    struct splits *x = &s->splits;
    const char *given = s->request.split;
    bool any = false;
    x->layers = s->base.model.layers;
    x->even = xcalloc((size_t)x->layers + 1, sizeof *x->even);
    x->automatic = xcalloc((size_t)x->layers + 1, sizeof *x->automatic);
    for (int64_t n = 1; n <= x->layers; n++) {
        if (!stages_possible(s, n))
            continue;
        x->even[n] = split_of(s, n, given);
        any = any || x->even[n];
        if (given || !x->even[n])
            continue;
        struct stage *even_costs = split_of(s, n, "auto");
        if (even_costs && same_split(even_costs, x->even[n], n)) {
            free(even_costs);
            even_costs = NULL;
        }
        x->automatic[n] = even_costs;
    }
    return any ? 0 : -1; /* split_make() has said why */
}

/* All 120, or the one given. */
static int make_orders(struct layout_search *s)
{
    int n = 0;
    s->orders = xcalloc(120 + 1, sizeof *s->orders); /* and room to write what is not one */
    if (*s->request.axes.order) {
        strcpy(s->orders[0].text, s->request.axes.order);
        s->order_count = 1;
        return order_parse(s->orders[0].text, s->orders[0].axes);
    }
    for (int code = 0; code < 3125; code++) { /* five digits, each axis once */
        int seen = 0;
        char *at = s->orders[n].text;
        for (int k = 0, rest = code; k < AXES; k++, rest /= AXES) {
            seen |= 1 << rest % AXES;
            s->orders[n].axes[k] = rest % AXES;
            at = stpcpy(stpcpy(at, k ? "-" : ""), axis_name[rest % AXES]);
        }
        if (seen == (1 << AXES) - 1)
            n++;
    }
    s->order_count = n;
    for (int i = 0; i < n; i++) /* the default comes first, and stands for those alike */
        if (strcmp(s->orders[i].text, DEFAULT_ORDER) == 0) {
            struct order first = s->orders[i];
            s->orders[i] = s->orders[0];
            s->orders[0] = first;
        }
    return 0;
}

int space_init(struct layout_search *s)
{
    TRY(make_orders(s));
    return make_splits(s);
}

void space_release(struct layout_search *s)
{
    for (int64_t n = 0; s->splits.even && n <= s->splits.layers; n++) {
        free(s->splits.even[n]);
        free(s->splits.automatic[n]);
    }
    free(s->splits.even);
    free(s->splits.automatic);
    for (int i = 0; i < s->ways_count; i++)
        free(s->ways[i].list);
    free(s->ways);
    free(s->orders);
    free(s->nodes);
    free(s->spreads);
}
