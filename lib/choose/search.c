/* SPDX-License-Identifier: MIT */
#include "choose/search.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "check/limits.h"
#include "choose/search_least.h"
#include "choose/search_space.h"

enum { THREADS = 2, FIRST_ROUND = 8, ROUND = 512, MOST_SEQUENCES = 1 << 20 };
#define ROUNDING 1e-9 /* of a closed form against the simulation's sum */

/* ---- two threads over a list ---- */

struct search_crew {
    struct layout_search *s;
    atomic_llong next;
    int64_t end;
    void (*work)(struct search_crew *c, int64_t i);
    double within; /* seconds: what takes longer is not kept */
    pthread_mutex_t lock;
    atomic_bool failed;
    char why[400];
};

static void crew_failed(struct search_crew *c)
{
    pthread_mutex_lock(&c->lock);
    if (!c->failed)
        snprintf(c->why, sizeof c->why, "%.390s", error_text());
    c->failed = true;
    pthread_mutex_unlock(&c->lock);
}

static void *crew_member(void *arg)
{
    struct search_crew *c = arg;
    for (int64_t i; (i = atomic_fetch_add(&c->next, 1)) < c->end;)
        c->work(c, i);
    return NULL;
}

/* All of [first,end), in any order. */
static int crew_run(struct layout_search *s, int64_t first, int64_t end, double within,
                    void (*work)(struct search_crew *, int64_t))
{
    struct search_crew c = {.s = s, .next = first, .end = end, .work = work, .within = within};
    pthread_t other[THREADS - 1];
    int started = 0;
    pthread_mutex_init(&c.lock, NULL);
    while (end - first > 1 && started < THREADS - 1 &&
           pthread_create(&other[started], NULL, crew_member, &c) == 0)
        started++;
    crew_member(&c);
    while (started > 0)
        pthread_join(other[--started], NULL);
    pthread_mutex_destroy(&c.lock);
    return c.failed ? error(STATUS_USAGE, "%s", c.why) : 0;
}

/* ---- bounds of nodes ---- */

/* Each rank of the pipeline has, on average, its share of all layers, without any communication. */
static void bound_node(struct search_crew *c, int64_t i)
{
    struct node *n = &c->s->nodes[i];
    struct opened o = {.p = c->s->base, .node = n, .curve = &c->s->curve};
    struct layer_times t;
    o.p.axes = n->axes;
    o.p.batch.micro = n->micro;
    o.p.batch.microbatches = n->microbatches;
    o.p.training.recompute = n->recompute;
    if (layers_time(&o, NULL, &t) < 0)
        crew_failed(c);
    n->bound_s = (double)n->microbatches * t.all / (double)n->axes.pp;
}

static int by_bound(const void *a, const void *b)
{
    const struct node *x = a, *y = b;
    if (x->bound_s != y->bound_s)
        return x->bound_s < y->bound_s ? -1 : 1;
    int order = memcmp(&x->axes, &y->axes, offsetof(struct axes, order));
    return order                  ? order
           : x->micro != y->micro ? (x->micro < y->micro ? -1 : 1)
                                  : (int)x->recompute - (int)y->recompute;
}

/* ---- leaves of a node ---- */

struct found_leaves {
    struct leaf *list;
    int64_t count, costed, fit;
};

static void found_add(struct found_leaves *f, const struct leaf *leaf)
{
    if ((f->count & (f->count - 1)) == 0)
        f->list = xrealloc(f->list, f->count ? 2 * (size_t)f->count : 1, sizeof *f->list);
    f->list[f->count++] = *leaf;
}

struct zeros {
    int first, last;
    bool all;         /* cost what does not fit as well */
    double memory[4]; /* of the way at hand, the same under every spread; negative: not counted yet */
};

static struct zeros zeros_of(const struct layout_search *s)
{
    struct zeros z = {.all = s->everything};
    space_zeros(s, &z.first, &z.last);
    return z;
}

/* The leaves that differ in ZeRO alone, given the span that they share. */
static void cost_zeros(struct opened *o, const struct order_spread *spread, struct leaf *leaf, double span_s,
                       double room, double within, struct zeros *z, struct found_leaves *f)
{
    for (int zero = z->first; zero <= z->last; zero++) {
        if (!z->all && z->memory[zero] > room)
            continue;
        o->p.training.zero = zero;
        f->costed++;
        leaf->closed_s = step_of_span(o, spread, span_s);
        if (!(leaf->closed_s <= within))
            continue;
        if (z->memory[zero] < 0 && memory_closed(o, false, &z->memory[zero]) < 0)
            z->memory[zero] = INFINITY; /* a microbatch too large for any memory */
        if (z->memory[zero] > room || isinf(z->memory[zero]))
            continue;
        f->fit++;
        leaf->zero = (int8_t)zero;
        leaf->memory_bytes = z->memory[zero];
        found_add(f, leaf);
    }
}

static bool none_fits(const struct zeros *z, double room)
{
    for (int zero = z->first; zero <= z->last; zero++)
        if (!(z->memory[zero] > room))
            return false;
    return true;
}

/* One way under every spread. Layers alone, and the span alone, are bounds. */
static void cost_way(struct opened *o, const struct layout_search *s, const struct layer_times *times,
                     struct leaf leaf, double within, struct found_leaves *f)
{
    struct zeros z = zeros_of(s);
    for (int zero = z.first; zero <= z.last; zero++)
        z.memory[zero] = -1;
    for (int i = 0; i < o->node->spreads; i++) {
        const struct layer_times *t = &times[i];
        leaf.spread = o->node->first_spread + i;
        if (!z.all && none_fits(&z, t->room))
            continue;
        if (!(t->all * (double)o->node->microbatches / (double)o->p.axes.pp <= within))
            continue;
        stages_time(o, t);
        double span = span_closed(o, t->message);
        if (!(span <= within))
            continue;
        cost_zeros(o, &s->spreads[leaf.spread], &leaf, span, t->room, within, &z, f);
    }
}

/* Seconds of layers under each spread; those that differ in replicas alone have the same. */
static int time_spreads(struct opened *o, const struct order_spread *spreads, int count,
                        struct layer_times *times)
{
    for (int i = 0; i < count; i++) {
        int k = 0;
        while (k < i && !spread_same_layers(&spreads[k], &spreads[i]))
            k++;
        if (k < i)
            times[i] = times[k];
        else
            TRY(layers_time(o, &spreads[i], &times[i]));
        times[i].room = room_of(&o->p, &spreads[i]);
    }
    return 0;
}

static void keep(struct search_crew *c, const struct found_leaves *f)
{
    struct layout_search *s = c->s;
    pthread_mutex_lock(&c->lock);
    s->leaves = xrealloc(s->leaves, (size_t)(s->leaf_count + f->count) + 1, sizeof *s->leaves);
    if (f->count)
        memcpy(s->leaves + s->leaf_count, f->list, (size_t)f->count * sizeof *f->list);
    s->leaf_count += f->count;
    s->costed += f->costed;
    s->fit += f->fit;
    pthread_mutex_unlock(&c->lock);
}

static void open_node(struct search_crew *c, int64_t at)
{
    struct layout_search *s = c->s;
    const struct node *n = &s->nodes[at];
    const struct ways *w = &s->ways[n->ways];
    struct layer_times *times = xcalloc((size_t)n->spreads, sizeof *times);
    struct found_leaves f = {0};
    struct opened o;
    opened_init(&o, &s->base, &s->splits, n);
    o.curve = &s->curve;
    bool timed = time_spreads(&o, &s->spreads[n->first_spread], n->spreads, times) == 0;
    if (!timed)
        crew_failed(c);
    for (int k = 0; timed && k < w->count; k++) {
        const struct way *way = &w->list[k];
        struct leaf leaf = {.node = (int)at,
                            .vpp = way->vpp,
                            .schedule = way->schedule,
                            .automatic = way->automatic,
                            .step_s = NAN};
        o.p.training.schedule = way->schedule;
        opened_stages(&o, way->vpp, way->automatic);
        cost_way(&o, s, times, leaf, c->within, &f);
    }
    opened_release(&o);
    free(times);
    keep(c, &f);
    free(f.list);
}

/* ---- ranking ---- */

static int by_shape(const struct leaf *x, const struct leaf *y)
{
    const int a[] = {x->zero, x->node, x->spread, x->vpp, x->automatic, x->schedule};
    const int b[] = {y->zero, y->node, y->spread, y->vpp, y->automatic, y->schedule};
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int by_closed(const void *a, const void *b)
{
    const struct leaf *x = a, *y = b;
    return x->closed_s != y->closed_s ? (x->closed_s < y->closed_s ? -1 : 1) : by_shape(x, y);
}

/* Those that are not simulated, or do not fit after all, last. */
static int by_step(const void *a, const void *b)
{
    const struct leaf *x = a, *y = b;
    if (isnan(x->step_s) || isnan(y->step_s))
        return isnan(x->step_s) && isnan(y->step_s) ? by_closed(a, b) : isnan(x->step_s) ? 1 : -1;
    if (x->step_s != y->step_s)
        return x->step_s < y->step_s ? -1 : 1;
    return x->memory_bytes != y->memory_bytes ? (x->memory_bytes < y->memory_bytes ? -1 : 1) : by_shape(x, y);
}

static void simulate(struct search_crew *c, int64_t i)
{
    struct layout_search *s = c->s;
    struct leaf *leaf = &s->leaves[i];
    struct opened o;
    if (!isnan(leaf->step_s))
        return;
    opened_init(&o, &s->base, &s->splits, &s->nodes[leaf->node]);
    if (leaf_simulate(&o, &s->spreads[leaf->spread], leaf) < 0)
        crew_failed(c);
    if (leaf->memory_bytes > room_of(&o.p, &s->spreads[leaf->spread]))
        leaf->step_s = INFINITY; /* chunks of unequal size leave gaps that the closed form does not see */
    opened_release(&o);
}

/* [first,end) of the sorted leaves; the best that is found. */
static int simulate_all(struct layout_search *s, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++)
        s->simulated += isnan(s->leaves[i].step_s);
    TRY(crew_run(s, first, end, INFINITY, simulate));
    for (int64_t i = first; i < end; i++)
        s->best_s = fmin(s->best_s, s->leaves[i].step_s);
    return 0;
}

/* Drops what is beyond the margin, and simulates what may be better than the best so far. */
static int improve(struct layout_search *s)
{
    qsort(s->leaves, (size_t)s->leaf_count, sizeof *s->leaves, by_closed);
    for (int64_t i = 0; i < s->leaf_count && s->leaves[i].closed_s * (1 + ROUNDING) < s->best_s; i++)
        TRY(simulate_all(s, i, i + 1));
    while (!s->everything && s->leaf_count > 0 &&
           s->leaves[s->leaf_count - 1].closed_s > SEARCH_MARGIN * s->best_s)
        s->leaf_count--;
    return 0;
}

static int open_nodes(struct layout_search *s)
{
    int64_t at = 0, round = FIRST_ROUND;
    while (at < s->node_count) {
        double within = s->everything ? INFINITY : SEARCH_MARGIN * s->best_s;
        int64_t end = min64(at + round, s->node_count);
        while (end > at && s->nodes[end - 1].bound_s > within)
            end--;
        if (end == at)
            break;
        int64_t kept = s->leaf_count;
        TRY(crew_run(s, at, end, within, open_node));
        if (s->leaf_count > kept)
            TRY(improve(s));
        at = end;
        round = min64(2 * round, ROUND);
    }
    s->pruned = s->legal - s->costed;
    return 0;
}

/* All within the margin of the best closed form, then what could still win. */
static int simulate_close(struct layout_search *s)
{
    qsort(s->leaves, (size_t)s->leaf_count, sizeof *s->leaves, by_closed);
    int64_t end = 0;
    double within = s->everything ? INFINITY : SEARCH_MARGIN * s->leaves[0].closed_s;
    while (end < s->leaf_count && s->leaves[end].closed_s <= within)
        end++;
    TRY(simulate_all(s, 0, end));
    while (end < s->leaf_count && s->leaves[end].closed_s <= s->best_s) {
        TRY(simulate_all(s, end, end + 1));
        end++;
    }
    for (int64_t i = 0; i < s->leaf_count; i++) {
        struct leaf *x = &s->leaves[i];
        if (isinf(x->step_s))
            x->step_s = NAN;
    }
    qsort(s->leaves, (size_t)s->leaf_count, sizeof *s->leaves, by_step);
    while (s->leaf_count > 0 && isnan(s->leaves[s->leaf_count - 1].step_s))
        s->leaf_count--;
    return 0;
}

/* ---- the whole ---- */

static int check_figures(const struct plan *p, struct curve *curve)
{
    struct costing c;
    TRY(costing_of_shape(&c, p, 1, NULL));
    *curve = c.curve;
    const struct machine *m = &p->machine;
    if (isnan(c.rate) || (m->per_node > 1 && p->world > 1 && !(m->intra_Bps > 0)) ||
        (p->world > m->per_node && !(m->inter_Bps > 0)))
        return error(
            STATUS_USAGE,
            "cluster '%s' lacks what seconds are counted with: flops at this precision, memory_Bps, or the "
            "speed of a link (see moe-cluster(5)); 'moe-train --calibrate -o FILE' measures this machine",
            m->name);
    return 0;
}

int search_init(struct layout_search *s, const struct request *asked)
{
    *s = (struct layout_search){.request = *asked, .best_s = INFINITY};
    struct request *r = &s->request;
    request_like(r);
    if (r->world < 1)
        return error(STATUS_USAGE, "how many ranks? name them with --world");
    if (r->batch.global == 0)
        r->batch.global = 4 * r->world;
    if (r->batch.global > MOST_SEQUENCES)
        return error(STATUS_USAGE, "a global batch of %lld is more than a search takes, %d",
                     (long long)r->batch.global, MOST_SEQUENCES);
    struct request any = *r; /* of what is fixed only what no layout changes */
    any.axes = (struct axes){0};
    any.batch.micro = 1;
    any.recompute = any.schedule = NULL;
    TRY(plan_start(&s->base, &any));
    TRY(check_figures(&s->base, &s->curve));
    TRY(space_init(s));
    return 0;
}

int search_run(struct layout_search *s)
{
    space_enumerate(s);
    if (!s->legal) {
        struct plan p; /* says which rule is in the way of what is fixed */
        struct request r = s->request;
        if (plan_make(&p, &r) < 0)
            return -1;
        plan_release(&p);
        return error(STATUS_USAGE, "no layout of %d ranks is legal with what is fixed", s->base.world);
    }
    TRY(crew_run(s, 0, s->node_count, 0, bound_node));
    qsort(s->nodes, (size_t)s->node_count, sizeof *s->nodes, by_bound);
    TRY(open_nodes(s));
    if (s->leaf_count)
        TRY(simulate_close(s));
    return s->leaf_count ? 0 : search_fits_nowhere(s);
}

void search_release(struct layout_search *s)
{
    space_release(s);
    free(s->leaves);
    s->base.stages = NULL;
    plan_release(&s->base);
}

int search_plan(const struct layout_search *s, const struct leaf *leaf, const char *made_by, struct plan *p)
{
    const struct node *n = &s->nodes[leaf->node];
    *p = s->base;
    p->axes = n->axes;
    p->axes.vpp = leaf->vpp;
    snprintf(p->axes.order, sizeof p->axes.order, "%s", s->spreads[leaf->spread].order->text);
    p->batch.micro = n->micro;
    p->batch.microbatches = n->microbatches;
    p->training.recompute = n->recompute;
    p->training.schedule = leaf->schedule;
    p->training.zero = leaf->zero;
    return plan_finish(p, s->request.split ? s->request.split : leaf->automatic ? "auto" : NULL, made_by);
}

void search_plan_release(struct plan *p)
{
    p->model = (struct model){0}; /* the search's */
    plan_release(p);
}
