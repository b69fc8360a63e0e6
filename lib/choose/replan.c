/* SPDX-License-Identifier: MIT */
#include "choose/replan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/ranges.h"
#include "choose/make.h"
#include "cost/communicators.h"
#include "cost/predict.h"
#include "model/config.h"
#include "model/edit.h"
#include "plan/layout.h"
#include "plan/rules.h"
#include "plan/schedule.h"
#include "plan/slots.h"

typedef long long ll;

/* A layout of what is left: axes, and which old rank stands where. */
struct rest_layout {
    struct axes axes;
    bool kept;  /* the old one with fewer dp */
    int *block; /* [pp][dp]: the first old rank of the block, that with tp 0 and cp 0 */
};

struct replanning {
    const struct replan_request *r;
    struct drops drops;
    char *config; /* of the model with fewer experts, or NULL */
    struct replanned best;
    bool any;
    double fastest; /* tokens a second */
    int64_t fastest_ep;
    /* Of the first layout tried, for what is said when none does: its dp, and what would be legal. */
    int64_t dp, legal[4];
    char *reason;
};

/* ---- blocks ---- */

static int64_t block_ranks(const struct axes *a)
{
    return a->tp * a->cp;
}

/* Of the block there: of the old layout that rank, of a new one the next of the node. */
static int rank_in_block(const struct replan_request *r, const struct rest_layout *s, const struct coords *at)
{
    int first = s->block[at->pp * s->axes.dp + at->dp];
    if (!s->kept) {
        int skip = (int)(at->cp * s->axes.tp + at->tp);
        while (skip > 0 || r->lost->rank[first])
            skip -= !r->lost->rank[first++];
        return first;
    }
    struct coords of = r->old->ranks[first];
    of.tp = at->tp;
    of.cp = at->cp;
    return layout_dense_rank(&r->old->axes, &of);
}

static bool block_whole(const struct replan_request *r, int dp, int pp)
{
    const struct axes *a = &r->old->axes;
    for (int tp = 0; tp < a->tp; tp++)
        for (int cp = 0; cp < a->cp; cp++) {
            struct coords at = {.tp = tp, .cp = cp, .dp = dp, .pp = pp};
            if (r->lost->rank[layout_dense_rank(a, &at)])
                return false;
        }
    return true;
}

/* The old axes with as many dp as every pipeline rank has whole blocks: first those whole on all. */
static bool shape_kept(const struct replan_request *r, struct rest_layout *s)
{
    const struct axes *a = &r->old->axes;
    int64_t dp = a->dp, fewest = dp, together = 0;
    bool *whole = xcalloc((size_t)(a->pp * dp), sizeof *whole), *all = xcalloc((size_t)dp, sizeof *all);
    for (int d = 0; d < dp; d++)
        all[d] = true;
    for (int pp = 0; pp < a->pp; pp++) {
        int64_t count = 0;
        for (int d = 0; d < dp; d++) {
            whole[pp * dp + d] = block_whole(r, d, pp);
            count += whole[pp * dp + d];
            all[d] = all[d] && whole[pp * dp + d];
        }
        fewest = min64(fewest, count);
    }
    *s = (struct rest_layout){.axes = *a, .kept = true};
    s->axes.dp = fewest;
    s->block = xcalloc((size_t)max64(1, a->pp * fewest), sizeof *s->block);
    for (int d = 0; d < dp; d++)
        together += all[d];
    for (int pp = 0; pp < a->pp && fewest; pp++) {
        int64_t with = 0, alone = together;
        for (int d = 0; d < dp; d++) {
            struct coords at = {.dp = d, .pp = pp};
            int64_t *place = all[d] ? &with : &alone;
            if (whole[pp * dp + d] && *place < fewest)
                s->block[pp * fewest + (*place)++] = layout_dense_rank(a, &at);
        }
    }
    free(all);
    free(whole);
    return fewest > 0;
}

/* Blocks of ranks that stay, none over two nodes: how many, and the first of each. */
static int64_t node_blocks(const struct replan_request *r, int64_t size, int *first)
{
    int64_t count = 0, have = 0, begin = 0;
    for (int i = 0; i < r->old->world; i++) {
        if (i && r->old->ranks[i].node != r->old->ranks[i - 1].node)
            have = 0;
        if (r->lost->rank[i])
            continue;
        if (have++ == 0)
            begin = i;
        if (have == size) {
            first[count++] = (int)begin;
            have = 0;
        }
    }
    return count;
}

static bool shape_anew(const struct replan_request *r, int64_t tp, int64_t pp, struct rest_layout *s)
{
    const struct axes *a = &r->old->axes;
    int *first = xcalloc((size_t)r->old->world, sizeof *first);
    int64_t blocks = node_blocks(r, tp * a->cp, first);
    *s = (struct rest_layout){.axes = *a, .block = first};
    s->axes.tp = tp;
    s->axes.pp = pp;
    s->axes.dp = blocks / pp;
    if (pp != a->pp)
        s->axes.vpp = 1;
    /* block k is (pp k div dp, dp k mod dp): as they lie in first[] */
    return s->axes.dp > 0;
}

/* ---- one layout made ---- */

static int put_model(struct replanning *x, struct plan *p)
{
    const struct model *m = &x->r->old->model;
    const char *text = x->config ? x->config : m->source;
    TRY(model_parse(&p->model, text, x->config ? strlen(text) : m->source_bytes,
                    "config.json of what is left"));
    memcpy(p->model.name, m->name, sizeof p->model.name);
    return 0;
}

/* The old split where the stages are as many, "4,3,4,5"; else NULL. Caller frees. */
static char *split_of(const struct plan *old, const struct axes *a)
{
    if (a->pp * a->vpp != old->stage_count)
        return NULL;
    char *text = xstrdup("");
    for (int i = 0; i < old->stage_count; i++) {
        char *longer = xasprintf("%s%s%d", text, i ? "," : "", old->stages[i].layers);
        free(text);
        text = longer;
    }
    return text;
}

static bool batch_legal(struct plan *p, int64_t microbatches)
{
    p->batch.microbatches = microbatches;
    p->batch.global = microbatches * p->batch.micro * p->axes.dp;
    bool legal = shape_legal(p) == 0;
    error_clear();
    return legal;
}

/* The global batches around `wanted` that are legal, and *nearest of them; 0 where none is. */
static int64_t legal_batches(struct plan *p, int64_t wanted, int64_t legal[4])
{
    int64_t each = p->batch.micro * p->axes.dp, at = wanted / each, nearest = 0;
    int64_t most = at + 4 * p->axes.pp * p->axes.vpp + 4;
    memset(legal, 0, 4 * sizeof *legal);
    for (int64_t m = at, k = 1; m >= 1 && k >= 0 && at - m <= most; m--)
        if (batch_legal(p, m))
            legal[k--] = m * each;
    for (int64_t m = at + 1, k = 2; m <= most && k < 4; m++)
        if (batch_legal(p, m))
            legal[k++] = m * each;
    for (int k = 0; k < 4; k++)
        if (legal[k] && (!nearest || llabs(legal[k] - wanted) < llabs(nearest - wanted)))
            nearest = legal[k];
    return nearest;
}

/* Which nodes there still are, numbered anew in their order. */
static void put_nodes(struct plan *p, const struct plan *old, const int *was)
{
    int64_t most = 0, used = 0;
    for (int r = 0; r < old->world; r++)
        most = max64(most, old->ranks[r].node);
    int *number = xcalloc((size_t)most + 1, sizeof *number);
    for (int r = 0; r < p->world; r++)
        number[old->ranks[was[r]].node] = 1;
    for (int64_t i = 0; i <= most; i++)
        number[i] = number[i] ? (int)used++ : -1;
    for (int r = 0; r < p->world; r++)
        p->ranks[r].node = number[old->ranks[was[r]].node];
    p->machine.nodes = used;
    free(number);
}

/* Whether experts lie otherwise than in order, as many on each ep rank as can be. */
static bool is_placed(const struct plan *p)
{
    bool placed = plan_replicas(p) > 0;
    for (int l = 0; l < p->model.layers && !placed; l++)
        for (int ep = 0; ep < p->axes.ep && !placed; ep++) {
            int64_t first, even, count, n = plan_slots(p, l, ep, &first);
            even_part(p->model.experts, p->axes.ep, ep, &even, &count);
            placed = n && n != count;
            for (int64_t k = 0; k < n && !placed; k++)
                placed = plan_slot_expert(p, l, first + k) != even + k;
        }
    return placed;
}

/* Experts stay on their ep ranks where there are as many of both. Whether they did, or were not placed. */
static bool put_slots(struct plan *p, const struct plan *old)
{
    const struct model *m = &p->model;
    if (p->axes.ep != old->axes.ep || m->experts != old->model.experts || plan_replicas(old))
        return !is_placed(old);
    struct expert_place *list = xcalloc((size_t)(m->moe_layers * m->experts), sizeof *list);
    int64_t count = 0, first;
    for (int l = 0; l < m->layers; l++)
        for (int ep = 0; ep < p->axes.ep; ep++)
            for (int64_t k = 0, n = plan_slots(old, l, ep, &first); k < n; k++)
                list[count++] = (struct expert_place){l, ep, plan_slot_expert(old, l, first + k)};
    slots_set(p, list, count);
    free(list);
    return true;
}

/* A plan of this shape with these experts' axes. */
static int make_plan(struct replanning *x, const struct rest_layout *s, int64_t etp, int64_t ep,
                     struct replanned *n)
{
    const struct plan *old = x->r->old;
    struct plan *p = &n->p;
    *n = (struct replanned){.kept = s->kept};
    TRY(put_model(x, p));
    p->axes = s->axes;
    p->axes.etp = etp;
    p->axes.ep = ep;
    p->axes.edp = block_ranks(&s->axes) * s->axes.dp / etp / ep;
    p->world = (int)(block_ranks(&s->axes) * s->axes.dp * s->axes.pp);
    p->batch = old->batch;
    p->routing = old->routing;
    p->training = old->training;
    p->machine = old->machine;
    if (p->axes.vpp != old->axes.vpp)
        p->training.schedule = schedule_default(p->axes.vpp);
    int64_t wanted = x->r->global > 0 ? x->r->global : old->batch.global;
    int64_t nearest = legal_batches(p, wanted, n->legal);
    p->batch.global = x->r->global == BATCH_NEAREST && nearest ? nearest : wanted;
    p->batch.microbatches = p->batch.global / (p->batch.micro * p->axes.dp);
    char *split = split_of(old, &p->axes);
    int rc = plan_finish(p, split, x->r->made_by);
    free(split);
    TRY(rc);
    n->was = xcalloc((size_t)p->world, sizeof *n->was);
    for (int r = 0; r < p->world; r++)
        n->was[r] = rank_in_block(x->r, s, &p->ranks[r]);
    put_nodes(p, old, n->was);
    n->unplaced = !put_slots(p, old);
    return plan_predict(p);
}

/* ---- the choice ---- */

/* That fits; as it was, with an ep nearer to what that was; of layouts found anew, with more tokens a second
 * or, where that is not known, more ranks. */
static bool better(const struct replanning *x, const struct replanned *n, const struct replanned *m)
{
    const struct plan *a = &n->p, *b = &m->p;
    int64_t ep = x->r->old->axes.ep, far = llabs(a->axes.ep - ep), other = llabs(b->axes.ep - ep);
    double s = a->predict.tokens_per_s, t = b->predict.tokens_per_s;
    if (plan_fits(a) != plan_fits(b))
        return plan_fits(a);
    if (n->kept != m->kept)
        return n->kept;
    if ((n->kept || isnan(s) || isnan(t)) && a->world == b->world && far != other)
        return far < other;
    return isnan(s) || isnan(t) ? a->world > b->world : s > t * (1 + 1e-9);
}

/* For the report: the ep that would be fastest. */
static void note_fastest(struct replanning *x, const struct replanned *n)
{
    if (plan_fits(&n->p) && n->p.predict.tokens_per_s > x->fastest) {
        x->fastest = n->p.predict.tokens_per_s;
        x->fastest_ep = n->p.axes.ep;
    }
}

static void consider(struct replanning *x, const struct rest_layout *s, int64_t etp, int64_t ep)
{
    struct replanned n;
    bool made = make_plan(x, s, etp, ep, &n) == 0;
    if (made)
        note_fastest(x, &n);
    if (made && (!x->any || better(x, &n, &x->best))) {
        replanned_release(&x->best);
        x->best = n;
        x->any = true;
        return;
    }
    if (!made && !x->reason) {
        x->dp = s->axes.dp;
        memcpy(x->legal, n.legal, sizeof n.legal);
        x->reason = xstrdup(error_text());
    }
    error_clear();
    replanned_release(&n);
}

/* All ep, with the widest etp that goes. */
static void consider_shape(struct replanning *x, const struct rest_layout *s)
{
    int64_t ranks = block_ranks(&s->axes) * s->axes.dp, etp = min64(x->r->old->axes.etp, ranks);
    while (ranks % etp || (x->r->old->axes.etp % etp))
        etp--;
    int64_t experts = x->drops.gone ? x->drops.kept : x->r->old->model.experts;
    for (int64_t ep = 1; ep <= max64(1, min64(experts, ranks / etp)); ep++)
        if (ranks / etp % ep == 0)
            consider(x, s, etp, ep);
}

static void consider_anew(struct replanning *x)
{
    const struct axes *a = &x->r->old->axes;
    for (int64_t tp = a->tp; tp >= 1; tp--)
        for (int64_t pp = a->pp; pp >= 1 && a->tp % tp == 0; pp--) {
            struct rest_layout s;
            if (shape_anew(x->r, tp, pp, &s))
                consider_shape(x, &s);
            free(s.block);
        }
}

/* With fewer dp, where the batch that is asked for needs that. */
static bool consider_kept(struct replanning *x)
{
    struct rest_layout s;
    bool some = shape_kept(x->r, &s);
    int64_t most = s.axes.dp, pp = s.axes.pp;
    for (int64_t dp = most; some && dp >= 1 && !x->any; dp--) {
        if (dp < most && x->r->global <= 0)
            break;
        struct rest_layout t = s;
        t.axes.dp = dp;
        t.block = xcalloc((size_t)(pp * dp), sizeof *t.block);
        for (int64_t i = 0; i < pp; i++)
            memcpy(t.block + i * dp, s.block + i * most, (size_t)dp * sizeof *t.block);
        consider_shape(x, &t);
        free(t.block);
    }
    free(s.block);
    return some;
}

/* ---- which experts go ---- */

static void mark_layer(struct replanning *x, int layer, int64_t ep)
{
    const struct plan *old = x->r->old;
    int64_t first, count = plan_slots(old, layer, ep, &first);
    for (int64_t s = first; s < first + count; s++)
        for (int l = 0; l < old->model.layers; l++)
            if (old->model.moe[l] && (l == layer || !x->r->loads))
                x->drops.gone[l * x->drops.experts + plan_slot_expert(old, layer, s)] = true;
}

/* Those in the slots of lost ranks. */
static int choose_drops(struct replanning *x)
{
    const struct plan *old = x->r->old;
    TRY(drops_init(&x->drops, &old->model));
    bool *seen = xcalloc((size_t)(old->axes.pp * old->axes.ep), sizeof *seen);
    for (int r = 0; r < old->world; r++) {
        const struct coords *at = &old->ranks[r];
        bool *s = &seen[at->pp * old->axes.ep + at->ep];
        if (!x->r->lost->rank[r] || *s)
            continue;
        *s = true;
        for (int v = 0; v < old->stage_count; v++)
            for (int l = old->stages[v].first; l < old->stages[v].first + old->stages[v].layers; l++)
                if (old->stages[v].pp == at->pp)
                    mark_layer(x, l, at->ep);
    }
    free(seen);
    TRY(drops_even(&x->drops, &old->model, x->r->loads));
    x->config = config_with_experts(&old->model, x->drops.kept);
    return x->config ? 0 : -1;
}

/* ---- the whole ---- */

static int none_found(const struct replanning *x)
{
    const struct plan *old = x->r->old;
    int64_t wanted = x->r->global > 0 ? x->r->global : old->batch.global;
    char list[120] = "";
    for (int k = 0, n = 0; k < 4; k++)
        if (x->legal[k])
            n += snprintf(list + n, sizeof list - (size_t)n, "%s%lld", n ? ", " : "", (ll)x->legal[k]);
    bool legal = !*list;
    for (int k = 0; k < 4; k++)
        legal = legal || x->legal[k] == wanted;
    if (!legal)
        return error(STATUS_USAGE,
                     "a global batch of %lld is not legal with dp %lld, which is what is left; %s would be "
                     "(--global-batch auto takes the nearest; with a number as many dp are used as it allows)",
                     (ll)wanted, (ll)x->dp, list);
    return error(STATUS_USAGE, "no layout of the %d ranks that are left is legal: %s",
                 old->world - x->r->lost->count,
                 x->reason ? x->reason : "none has a block of tp ranks on one node");
}

static int choose(struct replanning *x)
{
    char needs[24], has[24];
    const struct plan *old = x->r->old;
    if (x->r->drop)
        TRY(choose_drops(x));
    bool some = consider_kept(x);
    if (!some || (x->any && !plan_fits(&x->best.p) && plan_fits(old)))
        consider_anew(x);
    if (!x->any)
        return none_found(x);
    if (plan_fits(&x->best.p) || !plan_fits(old))
        return 0;
    return error(
        STATUS_USAGE, "nothing that is left fits in memory: the least needs %s a rank, and a rank has %s",
        human_bytes(needed_bytes(&x->best.p.predict), needs), human_bytes(old->machine.memory_bytes, has));
}

int plan_replan(struct replanned *n, const struct replan_request *r)
{
    struct replanning x = {.r = r};
    *n = (struct replanned){0};
    int rc = choose(&x);
    if (rc == 0) {
        *n = x.best;
        n->drops = x.drops;
        n->fastest = x.fastest;
        n->fastest_ep = x.fastest_ep;
    } else {
        replanned_release(&x.best);
        drops_release(&x.drops);
    }
    free(x.config);
    free(x.reason);
    return rc;
}

void replanned_release(struct replanned *n)
{
    plan_release(&n->p);
    drops_release(&n->drops);
    free(n->was);
    *n = (struct replanned){0};
}
