/* SPDX-License-Identifier: MIT */
#include "cost/seconds.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "cost/simulate.h"
#include "plan/shard.h"
#include "plan/states.h"

/* Layers that cost the same. */
struct kinds {
    struct layer_cost cost[LAYER_KINDS];
    bool known[LAYER_KINDS];
};

static const struct layer_cost *layer_of(struct kinds *k, struct costing *c, int64_t layer)
{
    int kind = model_layer_kind(&c->p->model, layer);
    if (!k->known[kind])
        cost_of_layer(c, layer, &k->cost[kind]);
    k->known[kind] = true;
    return &k->cost[kind];
}

static void add(struct layer_cost *sum, const struct layer_cost *x)
{
    for (int pass = 0; pass < PASSES; pass++)
        for (int i = 0; i < PARTS; i++)
            sum->s[pass][i] += x->s[pass][i];
}

/* Of all virtual stages, and the sums of pipeline ranks. */
static void cost_stages(struct costing *c, struct stage_times *times, struct layer_cost *of_rank)
{
    const struct plan *p = c->p;
    struct kinds kinds = {0};
    for (int i = 0; i < p->stage_count; i++) {
        const struct stage *s = &p->stages[i];
        struct layer_cost sum, ends;
        cost_of_ends(c, i == 0, i == p->stage_count - 1, &ends);
        sum = ends;
        for (int k = 0; k < s->layers; k++)
            add(&sum, layer_of(&kinds, c, s->first + k));
        times[i] = (struct stage_times){pass_s(&sum, PASS_F), pass_s(&sum, PASS_B), pass_s(&sum, PASS_W)};
        add(&of_rank[s->pp], &sum);
    }
}

/* An all-gather or, `summed`, a reduce-scatter of what is too long for caches. Processors copy it through
 * memory, and what they sum once more: their links are no faster than that. */
static double moved_s(const struct plan *p, struct reach g, double bytes, bool summed)
{
    const struct machine *m = &p->machine;
    double s = gather_s(m, g, bytes), n = (double)g.per_node,
           traffic = 2 * (n - 1) / n + (summed ? (n + 1) / n : 0);
    double memory = traffic * bytes / (MEMORY_SHARE * m->memory_Bps);
    return m->device == DEVICE_CPU && memory > s ? memory : s;
}

/* Once a step: gradients to those that update them, weights back (ring forms, links.h). */
struct exchanged {
    double sum_s, gather_s;           /* all buckets */
    double last_sum_s, last_gather_s; /* one bucket of each flat buffer */
    double again_s;                   /* weights for each forward and backward (ZeRO-3) */
    double buckets;                   /* of the flat buffer that has most */
};

static struct exchanged exchanged_of(const struct plan *p, const struct shards *s,
                                     const struct reach replicas[2])
{
    struct exchanged x = {.buckets = 1};
    double grad = p->training.grad_bf16 ? 2 : 4, e = (double)plan_type_bytes(p);
    for (int f = 0; f < 2; f++) {
        struct reach g = replicas[f];
        double count = (double)s->padded[f], buckets = (double)shards_buckets(s, f);
        if (g.ranks == 1 || !(count > 0))
            continue;
        double sum = moved_s(p, g, count / buckets * grad, true),
               gather = moved_s(p, g, count / buckets * e, false);
        if (!p->training.zero) { /* then gradients come back at once */
            sum += moved_s(p, g, count / buckets * grad, false);
            gather = 0;
        }
        x.last_sum_s += sum;
        x.last_gather_s += gather;
        x.sum_s += buckets * sum;
        x.gather_s += buckets * gather;
        x.buckets = fmax(x.buckets, buckets);
        if (p->training.zero == 3)
            x.again_s += (2 * (double)p->batch.microbatches - 1) * gather_s(&p->machine, g, count * e);
    }
    return x;
}

/* Of `all` seconds, `last` the last bucket's, what is awaited beside `computing` seconds. */
static double awaited_s(double all, double last, double computing, double buckets)
{
    return fmax(last, all - computing * (buckets - 1) / buckets);
}

/* Adam reads gradient, master weight and moments and writes all but the gradient, and the weight in its type;
 * the norm reads gradients once more, and they are cleared. */
static double optimizer_s(const struct plan *p, const struct shards *s)
{
    double grad = p->training.grad_bf16 ? 2 : 4, moment = p->training.moment_bf16 ? 2 : 4, bytes = 0;
    double master = plan_keeps(p, STATE_MASTER) ? 8 : 0, e = (double)plan_type_bytes(p);
    for (int f = 0; f < 2; f++)
        bytes += (double)s->sliced[f] * (2 * grad + 4 * moment + master + e) + (double)s->padded[f] * grad;
    return bytes / (MEMORY_SHARE * p->machine.memory_Bps);
}

double update_seconds(const struct plan *p, const struct shards *s, const struct reach replicas[2],
                      double span_s, const struct stage_times *beside, double *dp_s, double *optimizer)
{
    struct exchanged x = exchanged_of(p, s, replicas);
    *dp_s = x.sum_s + x.gather_s + x.again_s;
    *optimizer = optimizer_s(p, s);
    if (p->training.overlap && p->machine.device != DEVICE_CPU)
        *dp_s = awaited_s(x.sum_s, x.last_sum_s, beside->b_s + beside->w_s, x.buckets) +
                awaited_s(x.gather_s, x.last_gather_s, beside->f_s, x.buckets) +
                fmax(0.1 * x.again_s, x.again_s - span_s);
    return span_s + *dp_s + *optimizer;
}

int busiest_stage(const double *busy_s, int stages)
{
    int most = 0;
    for (int i = 1; i < stages; i++)
        if (busy_s[i] > busy_s[most] * (1 + 1e-9))
            most = i;
    return most;
}

static int first_rank_of(const struct plan *p, int pp)
{
    for (int r = 0; r < p->world; r++)
        if (p->ranks[r].pp == pp)
            return r;
    return 0;
}

static double between_stages_s(const struct costing *c)
{
    const struct plan *p = c->p;
    if (p->axes.pp == 1)
        return 0;
    bool across = p->ranks[first_rank_of(p, 0)].node != p->ranks[first_rank_of(p, 1)].node;
    return message_s(&p->machine, across, c->e * c->n * (double)p->model.hidden);
}

/* The schedule played, and who computes longest in it: a microbatch of its in *busiest. */
static int play(struct costing *c, struct seconds *out, struct stage_times *busiest)
{
    const struct plan *p = c->p;
    double m = (double)p->batch.microbatches;
    struct stage_times *times = xcalloc((size_t)p->stage_count, sizeof *times);
    struct layer_cost *of_rank = xcalloc((size_t)p->axes.pp, sizeof *of_rank);
    struct simulation s;
    cost_stages(c, times, of_rank);
    out->pp_s = between_stages_s(c);
    int r = plan_simulate_stages(p, times, out->pp_s, &s);
    if (r == 0) {
        double *busy = xcalloc((size_t)p->axes.pp, sizeof *busy);
        out->least = INFINITY;
        for (int i = 0; i < p->axes.pp; i++) {
            busy[i] =
                m * (pass_s(&of_rank[i], PASS_F) + pass_s(&of_rank[i], PASS_B) + pass_s(&of_rank[i], PASS_W));
            out->least = fmin(out->least, busy[i]);
        }
        out->slowest = busiest_stage(busy, (int)p->axes.pp);
        double most = busy[out->slowest];
        const struct layer_cost *x = &of_rank[out->slowest];
        *busiest = (struct stage_times){pass_s(x, PASS_F), pass_s(x, PASS_B), pass_s(x, PASS_W)};
        free(busy);
        for (int i = 0; i < PARTS; i++)
            for (int pass = 0; pass < PASSES; pass++)
                out->part_s[i] += m * of_rank[out->slowest].s[pass][i];
        out->idle_s = p->axes.pp > 1 ? fmax(0, s.span_s - most) : 0;
        out->step_s = s.span_s;
        simulation_release(&s);
    }
    free(times);
    free(of_rank);
    return r;
}

int plan_seconds(const struct plan *p, double lambda, struct seconds *out)
{
    struct costing c;
    struct shards s;
    struct stage_times busiest;
    *out = (struct seconds){0};
    if (costing_init(&c, p, 0, lambda) < 0)
        return -1;
    if (isnan(c.rate)) {
        *out = (struct seconds){.step_s = NAN};
        return 0;
    }
    if (play(&c, out, &busiest) < 0)
        return -1;
    int rank = first_rank_of(p, out->slowest);
    const struct reach replicas[2] = {group_reach(p, p->axes.cp > 1 ? GROUP_DP_CP : GROUP_DP, rank),
                                      group_reach(p, GROUP_EDP, rank)};
    shards_sizes(&s, p, &p->ranks[rank]);
    out->step_s = update_seconds(p, &s, replicas, out->step_s, &busiest, &out->dp_s, &out->optimizer_s);
    return 0;
}
