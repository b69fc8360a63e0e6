/* SPDX-License-Identifier: MIT */
#include "choose/search_cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "cost/communicators.h"
#include "cost/memory.h"
#include "cost/seconds.h"
#include "cost/simulate.h"
#include "plan/axes.h"
#include "plan/schedule.h"

void opened_init(struct opened *o, const struct plan *base, const struct splits *s, const struct node *n)
{
    size_t pp = (size_t)n->axes.pp, stages = (size_t)max64(s->layers, n->axes.pp * n->axes.vpp);
    *o = (struct opened){.p = *base, .splits = s, .node = n, .rest_of = -1};
    o->p.axes = n->axes;
    o->p.batch.micro = n->micro;
    o->p.batch.microbatches = n->microbatches;
    o->p.training.recompute = n->recompute;
    bucket_resolve(&o->p);
    o->ranks = xcalloc(pp, sizeof *o->ranks);
    o->sizes = xcalloc(pp, sizeof *o->sizes);
    o->rest = xcalloc(pp, sizeof *o->rest);
    o->times = xcalloc(stages, sizeof *o->times);
    o->busy = xcalloc(pp, sizeof *o->busy);
    o->stages = xcalloc(stages, sizeof *o->stages);
    for (size_t i = 0; i < pp; i++)
        o->ranks[i].pp = (int)i;
    o->p.ranks = o->ranks;
}

void opened_release(struct opened *o)
{
    free(o->ranks);
    free(o->sizes);
    free(o->rest);
    free(o->times);
    free(o->busy);
    free(o->stages);
}

bool opened_stages(struct opened *o, int64_t vpp, bool automatic)
{
    struct plan *p = &o->p;
    int64_t n = p->axes.pp * vpp;
    struct stage *const *of = automatic ? o->splits->automatic : o->splits->even;
    if (n > o->splits->layers || !of[n])
        return false;
    p->axes.vpp = vpp;
    p->stages = o->stages;
    p->stage_count = (int)n;
    if (o->vpp == vpp && o->automatic == automatic)
        return true;
    o->vpp = vpp;
    o->automatic = automatic;
    for (int i = 0; i < n; i++)
        o->stages[i] =
            (struct stage){i % (int)p->axes.pp, i / (int)p->axes.pp, of[n][i].first, of[n][i].layers};
    o->sized = false;
    o->rest_of = -1;
    return true;
}

/* Elements of the stages set, once something asks for them. */
static void make_sizes(struct opened *o)
{
    for (int i = 0; i < o->p.axes.pp && !o->sized; i++)
        shards_sizes_of(&o->sizes[i], &o->p, &o->ranks[i], &o->layers);
    o->sized = true;
}

static void put(struct layer_times *t, int kind, const struct layer_cost *x)
{
    t->f[kind] = pass_s(x, PASS_F);
    t->b[kind] = pass_s(x, PASS_B);
    t->w[kind] = pass_s(x, PASS_W);
    t->all_of[kind] = t->f[kind] + t->b[kind] + t->w[kind];
}

int layers_time(struct opened *o, const struct order_spread *s, struct layer_times *t)
{
    const struct plan *p = &o->p;
    const struct model *m = &p->model;
    struct costing *c = &o->costing;
    bool known[LAYER_KINDS] = {false};
    if (!o->costed)
        TRY(costing_of_shape(c, p, 1, o->curve));
    o->costed = true;
    if (s) {
        c->tp = s->tp;
        c->cp = s->cp;
        c->ep = s->ep;
        c->etp = s->etp;
    }
    t->all = 0;
    for (int64_t layer = 0; layer < m->layers; layer++) {
        int kind = model_layer_kind(m, layer);
        struct layer_cost x;
        if (!known[kind]) {
            cost_of_layer(c, layer, &x);
            put(t, kind, &x);
        }
        known[kind] = true;
        t->all += t->all_of[kind];
    }
    for (int ends = 0; ends < ENDS; ends++) {
        struct layer_cost x;
        cost_of_ends(c, ends != END_LAST, ends != END_FIRST, &x);
        put(t, LAYER_KINDS + ends, &x);
        if ((ends == END_BOTH) == (p->axes.pp == 1))
            t->all += t->all_of[LAYER_KINDS + ends];
    }
    t->message = s && p->axes.pp > 1 ? message_s(&p->machine, s->across, c->e * c->n * (double)m->hidden) : 0;
    return 0;
}

static void add(struct stage_times *t, const struct layer_times *from, int kind)
{
    t->f_s += from->f[kind];
    t->b_s += from->b[kind];
    t->w_s += from->w[kind];
}

void stages_time(struct opened *o, const struct layer_times *t)
{
    const struct plan *p = &o->p;
    for (int i = 0; i < p->axes.pp; i++)
        o->busy[i] = 0;
    for (int i = 0; i < p->stage_count; i++) {
        struct stage_times *x = &o->times[i];
        *x = (struct stage_times){0};
        bool first = i == 0, last = i == p->stage_count - 1;
        if (first || last)
            add(x, t, LAYER_KINDS + (first && last ? END_BOTH : first ? END_FIRST : END_LAST));
        for (int k = p->stages[i].first; k < p->stages[i].first + p->stages[i].layers; k++)
            add(x, t, model_layer_kind(&p->model, k));
        o->busy[i % p->axes.pp] += (double)p->batch.microbatches * (x->f_s + x->b_s + x->w_s);
    }
}

static double gpipe_span(const struct opened *o, double message_s)
{
    const struct plan *p = &o->p;
    double f = 0, b = 0, most_f = 0, most_b = 0, again = (double)p->batch.microbatches - 1;
    for (int i = 0; i < p->axes.pp; i++) {
        double back = o->times[i].b_s + o->times[i].w_s;
        f += o->times[i].f_s;
        b += back;
        most_f = fmax(most_f, o->times[i].f_s);
        most_b = fmax(most_b, back);
    }
    return f + b + again * (most_f + most_b) + 2 * (double)(p->axes.pp - 1) * message_s;
}

double span_closed(const struct opened *o, double message_s)
{
    const struct plan *p = &o->p;
    const struct schedule *schedule = plan_schedule(p);
    double m = (double)p->batch.microbatches, head = 0, tail = 0, span = 0;
    if (strcmp(schedule->name, "gpipe") == 0)
        return gpipe_span(o, message_s);
    for (int i = 0; i < p->axes.pp; i++) {
        const struct stage_times *t = &o->times[i];
        if (schedule->splits) {
            span = fmax(span, head + o->busy[i]);
            span = fmax(span, head + m * (t->f_s + t->b_s) + tail + (i ? o->times[0].w_s : t->w_s));
        } else {
            span = fmax(span, head + o->busy[i] + tail);
        }
        head += t->f_s + message_s;
        tail += t->b_s + message_s + (schedule->splits ? 0 : t->w_s);
    }
    return span;
}

double step_of_span(struct opened *o, const struct order_spread *s, double span_s)
{
    int i = busiest_stage(o->busy, (int)o->p.axes.pp);
    double dp_s, optimizer_s;
    make_sizes(o);
    struct shards cut = o->sizes[i];
    shards_cut(&cut, &o->p, &o->ranks[i]);
    struct reach replicas[2] = {s->replicas[0], s->replicas[1]};
    if (i > 0 && !s->aligned)
        spread_replicas(&o->p, s, i, replicas);
    struct stage_times beside = {0};
    for (int v = i; v < o->p.stage_count; v += (int)o->p.axes.pp) {
        beside.f_s += o->times[v].f_s;
        beside.b_s += o->times[v].b_s;
        beside.w_s += o->times[v].w_s;
    }
    return update_seconds(&o->p, &cut, replicas, span_s, &beside, &dp_s, &optimizer_s);
}

double room_of(const struct plan *p, const struct order_spread *s)
{
    const struct reaches r = {s->tp, s->cp, s->ep, s->etp, {s->replicas[0], s->replicas[1]}, s->across};
    return p->machine.memory_bytes > 0 ? p->machine.memory_bytes - (double)communicator_bytes(p, &r) : INFINITY;
}

/* From the shape; what ZeRO does not change is counted once. */
static int bound_of_stage(struct opened *o, int i, int64_t *need)
{
    struct shards cut = o->sizes[i];
    shards_cut(&cut, &o->p, &o->ranks[i]);
    int64_t parameters = arena_parameters(&o->p, &o->ranks[i], &cut);
    if (o->rest[i] < 0) {
        TRY(arena_bound(&o->p, &o->ranks[i], &cut, need));
        o->rest[i] = *need - parameters;
    }
    *need = o->rest[i] + parameters;
    return 0;
}

int memory_closed(struct opened *o, bool exact, double *bytes)
{
    double room = o->p.machine.memory_bytes;
    *bytes = 0;
    make_sizes(o);
    for (int i = 0; i < o->p.axes.pp && o->rest_of != o->p.training.schedule; i++)
        o->rest[i] = -1;
    o->rest_of = o->p.training.schedule;
    for (int i = 0; i < o->p.axes.pp && (exact || !(room > 0) || *bytes <= room); i++) {
        int64_t need;
        if (exact) {
            struct memory m;
            if (memory_of_rank(&o->p, i, &m) < 0)
                return -1;
            need = m.total;
        } else {
            TRY(bound_of_stage(o, i, &need));
        }
        *bytes = fmax(*bytes, (double)need);
    }
    return 0;
}

int leaf_simulate(struct opened *o, const struct order_spread *s, struct leaf *leaf)
{
    struct layer_times t;
    struct simulation x;
    struct plan *p = &o->p;
    p->training.schedule = leaf->schedule;
    p->training.zero = leaf->zero;
    opened_stages(o, leaf->vpp, leaf->automatic);
    if (layers_time(o, s, &t) < 0)
        return -1;
    stages_time(o, &t);
    schedule_make(p);
    int r = plan_simulate_stages(p, o->times, t.message, &x);
    if (r == 0) {
        leaf->step_s = step_of_span(o, s, x.span_s);
        simulation_release(&x);
        if (p->axes.vpp > 1) /* else the closed form is exact */
            r = memory_closed(o, true, &leaf->memory_bytes);
    }
    for (int i = 0; i < p->axes.pp; i++)
        free(p->programs[i].ops);
    free(p->programs);
    p->programs = NULL;
    return r;
}

/* ---- how orders spread groups ---- */

/* Members base + i·one + k·two; counted on the node that has most of them, as group_reach() does. */
static struct reach reach_of(int64_t base, int64_t per_node, int64_t n, int64_t one, int64_t m, int64_t two)
{
    struct reach r = {n * m, 1};
    int64_t here = 0, node = -1;
    for (int64_t k = 0; k < n * m; k++) {
        int64_t at = (base + k % n * one + k / n * two) / per_node;
        here = at == node ? here + 1 : 1;
        node = at;
        r.per_node = max64(r.per_node, here);
    }
    return r;
}

/* One axis: where the first rank begins a node, its node has as many as any. */
static struct reach reach_on(int64_t base, int64_t per_node, int64_t n, int64_t stride)
{
    if (base % per_node)
        return reach_of(base, per_node, n, stride, 1, 0);
    return (struct reach){n, max64(1, min64(n, ceil_div(per_node, stride)))};
}

void spread_replicas(const struct plan *p, const struct order_spread *s, int stage, struct reach replicas[2])
{
    const struct axes *a = &p->axes;
    const enum axis *order = s->order->axes;
    int64_t dense[AXES], expert[AXES], per_node = max64(1, p->machine.per_node), base = stage * s->pp_stride;
    dense_sizes(a, dense);
    expert_sizes(a, expert);
    int64_t dp = axis_stride(order, dense, AXIS_DP), cp = axis_stride(order, dense, AXIS_CP);
    int64_t edp = axis_stride(order, expert, AXIS_DP);
    if (a->cp == 1 || a->dp == 1)
        replicas[0] = reach_on(base, per_node, a->dp * a->cp, a->cp == 1 ? dp : cp);
    else
        replicas[0] = dp < cp ? reach_of(base, per_node, a->dp, dp, a->cp, cp)
                              : reach_of(base, per_node, a->cp, cp, a->dp, dp);
    replicas[1] = reach_on(base, per_node, a->edp, edp);
}

bool spread_make(struct order_spread *s, const struct plan *p, const struct order *o)
{
    const struct axes *a = &p->axes;
    const enum axis *order = o->axes;
    int64_t dense[AXES], expert[AXES], per_node = max64(1, p->machine.per_node);
    dense_sizes(a, dense);
    expert_sizes(a, expert);
    int64_t pp = axis_stride(order, dense, AXIS_PP);
    if (a->pp > 1 && pp != axis_stride(order, expert, AXIS_PP)) /* rule axes-pipeline */
        return false;
    *s = (struct order_spread){.order = o,
                               .tp = reach_on(0, per_node, a->tp, axis_stride(order, dense, AXIS_TP)),
                               .cp = reach_on(0, per_node, a->cp, axis_stride(order, dense, AXIS_CP)),
                               .ep = reach_on(0, per_node, a->ep, axis_stride(order, expert, AXIS_EP)),
                               .etp = reach_on(0, per_node, a->etp, axis_stride(order, expert, AXIS_TP)),
                               .pp_stride = a->pp > 1 ? pp : 0,
                               .across = a->pp > 1 && pp >= per_node,
                               .aligned = a->pp == 1 || pp % per_node == 0};
    spread_replicas(p, s, 0, s->replicas);
    return true;
}

static bool same_reach(struct reach a, struct reach b)
{
    return a.ranks == b.ranks && a.per_node == b.per_node;
}

bool spread_same_layers(const struct order_spread *a, const struct order_spread *b)
{
    return same_reach(a->tp, b->tp) && same_reach(a->cp, b->cp) && same_reach(a->ep, b->ep) &&
           same_reach(a->etp, b->etp) && a->across == b->across;
}

bool spread_alike(const struct order_spread *a, const struct order_spread *b)
{
    return spread_same_layers(a, b) && same_reach(a->replicas[0], b->replicas[0]) &&
           same_reach(a->replicas[1], b->replicas[1]) && a->aligned == b->aligned &&
           (a->aligned || a->pp_stride == b->pp_stride);
}
