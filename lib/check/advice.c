/* SPDX-License-Identifier: MIT */
#include "check/advice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "check/limits.h"
#include "cost/cluster.h"
#include "cost/communicators.h"
#include "cost/memory.h"
#include "cost/snapshot.h"
#include "plan/axes.h"
#include "plan/fields.h"
#include "plan/schedule.h"
#include "plan/slots.h"
#include "plan/split.h"

typedef long long ll;
#define say verdict_say

/* ---- stages and schedule ---- */

/* What is legal, and may not be meant. */
static enum verdict stages_filled(const struct plan *p, char text[static 400])
{
    int empty = 0, first = -1;
    for (int i = p->stage_count - 1; i >= 0; i--)
        if (p->stages[i].layers == 0) {
            empty++;
            first = i;
        }
    if (empty)
        return say(text, VERDICT_WARN, "%d of %d virtual stages ha%s no layer, stage %d on pp %d %s", empty,
                   p->stage_count, empty > 1 ? "ve" : "s", first, p->stages[first].pp,
                   empty > 1 ? "first" : "that is");
    return say(text, VERDICT_OK, "%d stages, each with layers", p->stage_count);
}

static enum verdict positions_reach(const struct plan *p, char text[static 400])
{
    int64_t seq = p->batch.seq, most = p->model.max_positions;
    if (most && seq > most)
        return say(text, VERDICT_WARN, "seq %lld is beyond the model's max_position_embeddings, %lld", (ll)seq,
                   (ll)most);
    return say(text, VERDICT_OK, most ? "seq %lld of %lld" : "seq %lld; the model does not tell", (ll)seq,
               (ll)most);
}

/* Worst over mean of the pipeline ranks' arithmetic. */
static double imbalance(const struct plan *p, int *worst)
{
    double *cost = xcalloc((size_t)p->axes.pp, sizeof *cost), sum = 0;
    split_costs(p, cost);
    *worst = 0;
    for (int i = 0; i < p->axes.pp; i++) {
        sum += cost[i];
        if (cost[i] > cost[*worst])
            *worst = i;
    }
    double ratio = cost[*worst] * (double)p->axes.pp / sum;
    free(cost);
    return ratio;
}

#define UNEVEN    1.10 /* of the mean, from which on another split is looked for */
#define MOST_CUTS 1e8  /* that it takes time for */

/* The head costs as much as some layers: an even number of layers leaves the last stage with most to do. */
static enum verdict stages_balanced(const struct plan *p, char text[static 400])
{
    int worst, other;
    struct plan q = *p;
    double is = imbalance(p, &worst);
    const char *head = plan_is_last(p, worst) ? ", which has the head," : "";
    q.stages = NULL;
    bool ask =
        is > UNEVEN && (double)p->stage_count * (double)p->model.layers * (double)p->model.layers < MOST_CUTS;
    double best = ask && split_make(&q, "auto") == 0 ? imbalance(&q, &other) : is;
    error_clear();
    free(q.stages);
    if (best < 0.95 * is)
        return say(text, VERDICT_WARN,
                   "pp %d%s computes %.2f times the mean of all stages; at most %.2f with --split auto", worst,
                   head, is, best);
    return say(text, VERDICT_OK, "pp %d%s computes most, %.2f times the mean of all stages", worst, head, is);
}

static enum verdict pipeline_filled(const struct plan *p, char text[static 400])
{
    ll m = p->batch.microbatches, pp = p->axes.pp;
    if (m < pp)
        return say(text, VERDICT_WARN,
                   "%lld microbatch%s over pp %lld: at no time do all stages compute; a global batch of %lld "
                   "has %lld",
                   m, m > 1 ? "es" : "", pp, (ll)(p->batch.micro * p->axes.dp * pp), pp);
    return say(text, VERDICT_OK, "%lld microbatches over pp %lld", m, pp);
}

/* A program that was edited runs as it is written. */
static enum verdict schedule_named(const struct plan *p, char text[static 400])
{
    struct plan q = *p;
    const char *name = plan_schedule(p)->name;
    enum verdict v = say(text, VERDICT_OK, "the programs are those of %s", name);
    schedule_make(&q);
    for (int i = 0; i < p->axes.pp; i++) {
        const struct program *is = &p->programs[i], *should = &q.programs[i];
        int k = 0;
        while (k < is->count && k < should->count && is->ops[k].kind == should->ops[k].kind &&
               is->ops[k].chunk == should->ops[k].chunk && is->ops[k].microbatch == should->ops[k].microbatch)
            k++;
        char op[OP_TEXT];
        if (v == VERDICT_OK && (k < is->count || k < should->count))
            v = say(text, VERDICT_WARN, "stage %d, op %d is %s; %s makes another program", i, k,
                    k < is->count ? op_text(&is->ops[k], p->axes.vpp > 1, op) : "missing", name);
        free(should->ops);
    }
    free(q.programs);
    return v;
}

/* ---- nodes ---- */

/* cost/links.c counts on it, and so do launchers where no rank file tells otherwise. */
static enum verdict nodes_in_order(const struct plan *p, char text[static 400])
{
    int64_t each = p->machine.per_node;
    for (int r = 0; r < p->world; r++)
        if (p->ranks[r].node != r / each)
            return say(text, VERDICT_WARN,
                       "rank %d is on node %d; nodes of %lld filled in order have it on %lld", r,
                       p->ranks[r].node, (ll)each, (ll)(r / each));
    return say(text, VERDICT_OK, "ranks fill nodes of %lld in order", (ll)each);
}

static enum verdict tp_width(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    const struct {
        const char *name;
        int64_t size;
    } widths[] = {{"tp", a->tp}, {"etp", a->etp}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        int64_t fits = min64(widths[i].size, p->machine.per_node);
        while (widths[i].size % fits)
            fits--;
        if (widths[i].size > p->machine.per_node)
            return say(text, VERDICT_WARN, "%s %lld is wider than a node of %lld ranks; %s %lld would do",
                       widths[i].name, (ll)widths[i].size, (ll)p->machine.per_node, widths[i].name, (ll)fits);
    }
    return say(text, VERDICT_OK, "tp %lld and etp %lld on nodes of %lld ranks", (ll)a->tp, (ll)a->etp,
               (ll)p->machine.per_node);
}

/* "group tp 0 of 16 ranks is on 2 nodes, rank 0 on node 0 and rank 8 on node 1" */
static int where_text(const struct plan *p, const struct plan_group *g, int nodes, char text[static 200])
{
    int other = 0;
    while (other < g->size - 1 && p->ranks[g->ranks[other]].node == p->ranks[g->ranks[0]].node)
        other++;
    return snprintf(text, 200,
                    "group %s %d of %d ranks is on %d nodes, rank %d on node %d and rank %d on node %d",
                    group_name[g->kind], g->index, g->size, nodes, g->ranks[0], p->ranks[g->ranks[0]].node,
                    g->ranks[other], p->ranks[g->ranks[other]].node);
}

/* Tensor parallelism talks in every layer: across nodes it is slow, though legal. */
static enum verdict nodes_local(const struct plan *p, char text[static 400])
{
    char where[200];
    for (int i = 0; i < p->group_count; i++) {
        const struct plan_group *g = &p->groups[i];
        if (g->kind != GROUP_TP && g->kind != GROUP_ETP)
            continue;
        int nodes = plan_group_nodes(p, g);
        if (nodes > 1) {
            where_text(p, g, nodes, where);
            return say(text, VERDICT_WARN, "%s", where);
        }
    }
    return say(text, VERDICT_OK, "every tp and etp group is on one node");
}

/* Groups that talk in every layer should cross nodes only where they are too large: members of one are then
 * as near as the groups inside them (tp in cp's, etp in ep's) allow. */
static enum verdict groups_compact(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    int64_t each = p->machine.per_node;
    const int64_t least[GROUP_KINDS] = {[GROUP_CP] = ceil_div(a->cp * a->tp, each),
                                        [GROUP_EP] = ceil_div(a->ep * a->etp, each),
                                        [GROUP_KV] = ceil_div(a->tp, each)};
    int most[GROUP_KINDS] = {0};
    char where[200];
    for (int i = 0; i < p->group_count; i++) {
        const struct plan_group *g = &p->groups[i];
        int nodes = least[g->kind] ? plan_group_nodes(p, g) : 0;
        most[g->kind] = nodes > most[g->kind] ? nodes : most[g->kind];
        if (nodes > least[g->kind]) {
            where_text(p, g, nodes, where);
            return say(text, VERDICT_WARN, "%s; in another order than %s %lld would do", where, a->order,
                       (ll)least[g->kind]);
        }
    }
    return say(text, VERDICT_OK, "cp groups are on %d node%s at most, ep groups on %d", most[GROUP_CP],
               plural(most[GROUP_CP]), most[GROUP_EP]);
}

/* A preset's name with other figures: edited, or of another version. A processor's figures are its own. */
static enum verdict cluster_known(const struct plan *p, char text[static 400])
{
    struct machine m;
    char is[FIELD_VALUE], was[FIELD_VALUE];
    struct plan q = {0};
    bool preset = p->machine.device != DEVICE_CPU && cluster_preset(&m, p->machine.name, p->world) == 0;
    error_clear();
    if (!preset)
        return say(text, VERDICT_OK, "'%s' is no preset%s", p->machine.name,
                   p->machine.device == DEVICE_CPU ? " of GPUs" : "");
    q.machine = m;
    for (const struct field *f = machine_fields.fields; f->key; f++)
        if (strcmp(field_text(f, &q, is), field_text(f, p, was)) != 0)
            return say(text, VERDICT_WARN, "%s is %.80s; preset '%s' has %.80s", f->key, was, p->machine.name,
                       is);
    return say(text, VERDICT_OK, "the figures are those of preset '%s'", p->machine.name);
}

/* ---- experts and memory ---- */

/* Not so where they were placed by load. */
static enum verdict experts_in_order(const struct plan *p, char text[static 400])
{
    for (int l = 0; l < p->model.layers; l++)
        for (int e = 0; e < p->model.experts && p->model.moe[l]; e++)
            if (plan_layer_slot(p, l, e) != e)
                return say(text, VERDICT_WARN, "layer %d: expert %d is in slot %lld", l, e,
                           (ll)plan_layer_slot(p, l, e));
    return say(text, VERDICT_OK, "%lld experts, each ep rank has consecutive ones", (ll)p->model.experts);
}

static enum verdict capacity_balanced(const struct plan *p, char text[static 400])
{
    int64_t tokens = p->routing.local_scope ? plan_local_tokens(p) : plan_microbatch_tokens(p);
    int64_t capacity = plan_expert_capacity(p, tokens);
    if (!capacity)
        return say(text, VERDICT_OK, "dropless");
    double mean = (double)(tokens * p->model.top_k) / (double)p->model.experts;
    if ((double)capacity < mean)
        return say(
            text, VERDICT_WARN,
            "an expert takes %lld of the %.1f choices that it has when loads are even: %.1f%% are dropped at "
            "least; capacity factor 1 would do",
            (ll)capacity, mean, 100 * (1 - (double)capacity / mean));
    return say(text, VERDICT_OK, "an expert takes %lld choices, %.1f when loads are even", (ll)capacity, mean);
}

/* Bytes of the worst rank at this skew; NaN where they are too many to count. */
static double bytes_at(const struct plan *p, double lambda)
{
    struct plan q = *p;
    struct memory m;
    q.routing.lambda = lambda;
    bool counted = memory_of_rank(&q, p->predict.memory_rank, &m) == 0;
    error_clear();
    return counted ? (double)m.total : NAN;
}

/* Rows beyond what is reserved take more passes in moe-train, and more memory in other trainers. */
static enum verdict memory_skewed(const struct plan *p, char text[static 400])
{
    double lambda = p->routing.lambda, most = (double)(p->axes.ep), have = p->machine.memory_bytes;
    double beside = needed_bytes(&p->predict) - p->predict.memory_bytes;
    if (!p->model.moe_layers || p->routing.capacity > 0 || lambda >= most)
        return say(text, VERDICT_OK, "no more rows than are reserved can come");
    enum verdict v = lambda > 1 ? VERDICT_OK : VERDICT_WARN;
    const char *what = lambda > 1 ? "" : ", for even loads alone";
    double need = bytes_at(p, lambda), slope = (bytes_at(p, most) - need) / (most - lambda);
    double lasts = fmin(most, lambda + (have - beside - need) / slope);
    if (!(have > 0) || isnan(lasts))
        return say(text, v, "memory is reserved for lambda %g%s", lambda, what);
    return say(text, v, "memory is reserved for lambda %g%s; a rank has enough for %.2f", lambda, what, lasts);
}

#define PADDING 0.01 /* of a flat buffer */

/* What ZeRO cuts is padded to slices of equal size (plan/shard.h). */
static enum verdict zero_divides(const struct plan *p, char text[static 400])
{
    static const char *const part[] = {"dense", "expert"}, *const over[] = {"dp", "edp"};
    double worst = 0;
    if (p->training.zero == 0)
        return say(text, VERDICT_OK, "zero 0 cuts nothing");
    for (int i = 0; i < p->axes.pp; i++) {
        struct coords at = {.pp = i};
        struct shards s;
        shards_sizes(&s, p, &at);
        for (int f = FLAT_DENSE; f <= FLAT_EXPERT; f++) {
            double waste = s.elements[f] ? (double)(s.padded[f] - s.elements[f]) / (double)s.elements[f] : 0;
            worst = fmax(worst, waste);
            if (waste > PADDING)
                return say(
                    text, VERDICT_WARN,
                    "the %lld %s parameters of stage %d do not divide over %s %d: %lld are added, %.1f%%",
                    (ll)s.elements[f], part[f], i, over[f], s.replicas[f], (ll)(s.padded[f] - s.elements[f]),
                    100 * waste);
        }
    }
    return say(text, VERDICT_OK, "dense over %lld, experts over %lld replicas; %.2g%% is padding at most",
               (ll)(p->axes.dp * p->axes.cp), (ll)p->axes.edp, 100 * worst);
}

/* A bucket is summed when its last gradient is there: all in one when nothing is computed any more. */
static enum verdict buckets_several(const struct plan *p, char text[static 400])
{
    int64_t fewest = INT64_MAX, most = 0;
    char size[24];
    if (!p->training.overlap)
        return say(text, VERDICT_OK, "overlap off: gradients are summed at the end of a step");
    if (p->axes.dp * p->axes.cp == 1 && p->axes.edp == 1)
        return say(text, VERDICT_OK, "there is one replica, and nothing to sum");
    for (int i = 0; i < p->axes.pp; i++) {
        struct coords at = {.pp = i};
        struct shards s;
        shards_sizes(&s, p, &at);
        int64_t dense = s.replicas[FLAT_DENSE] > 1 ? shards_buckets(&s, FLAT_DENSE) : 0;
        int64_t expert = s.replicas[FLAT_EXPERT] > 1 ? shards_buckets(&s, FLAT_EXPERT) : 0;
        fewest = min64(fewest, max64(dense, expert));
        most = max64(most, dense + expert);
    }
    if (fewest < 2)
        return say(
            text, VERDICT_WARN,
            "overlap on, and a stage's dense gradients and experts' are one bucket each: what sums them is "
            "beside nothing; with fewer bucket-bytes it would be");
    return say(text, VERDICT_OK, "a stage has up to %lld buckets of %s", (ll)most,
               human_bytes((double)p->training.bucket_bytes, size));
}

/* ---- saves ---- */

/* Where ranks compute on processors, a save's snapshot is in the same memory. */
static enum verdict snapshot_fits(const struct plan *p, char text[static 400])
{
    int rank = p->predict.memory_rank;
    char needs[24], has[24];
    double need = (double)snapshot_bytes(p, rank), left = p->machine.memory_bytes - p->predict.memory_bytes;
    human_bytes(need, needs);
    if (p->machine.device != DEVICE_CPU || !(p->machine.memory_bytes > 0) || need <= left)
        return say(text, VERDICT_OK, "rank %d copies %s to host memory", rank, needs);
    return say(text, VERDICT_WARN, "rank %d would copy %s, and %s are left: training will wait for the disk",
               rank, needs, human_bytes(left > 0 ? left : 0, has));
}

#define MUCH_LOST 0.10

static enum verdict save_interval(const struct plan *p, char text[static 400])
{
    int64_t nodes = ceil_div(p->world, p->machine.per_node);
    double mtbf_s = p->machine.node_mtbf_s / (double)nodes, save_s = save_seconds(p, p->predict.memory_rank);
    double step_s = p->predict.step_s, best_s = save_interval_s(save_s, mtbf_s);
    if (!(mtbf_s > 0) || isnan(save_s) || !(step_s > 0))
        return say(text, VERDICT_OK,
                   "not known; it needs the cluster's node_mtbf_s, inter_Bps and seconds a step");
    double best = save_lost_share(save_s, mtbf_s, fmax(best_s, step_s));
    double steps = fmax(1, round(best_s / step_s));
    if (p->save_every > 0) {
        double is = save_lost_share(save_s, mtbf_s, (double)p->save_every * step_s);
        return say(
            text, is > 2 * best && is > 0.01 ? VERDICT_WARN : VERDICT_OK,
            "a save every %lld steps loses %.2g%% of all time to saves and failures; every %.0f steps %.2g%%",
            (ll)p->save_every, 100 * is, steps, 100 * best);
    }
    return say(
        text, best > MUCH_LOST ? VERDICT_WARN : VERDICT_OK,
        "%lld nodes fail every %.3g hours, a save takes %.2g s: best every %.0f steps, and %.2g%% of all time "
        "is lost",
        (ll)nodes, mtbf_s / 3600, save_s, steps, 100 * best);
}

/* ---- the rest ---- */

static enum verdict runnable(const struct plan *p, char text[static 400])
{
    if (plan_within_limits(p) < 0)
        return say(text, VERDICT_WARN, "%s", error_text());
    return say(text, VERDICT_OK, "moe-train can run it");
}

static enum verdict sealed(const struct plan *p, char text[static 400])
{
    if (!p->sealed)
        return say(text, VERDICT_WARN, "the plan has no sum over its text");
    return say(text, VERDICT_OK, "crc32 %08x", p->crc32);
}

#define ADVICE(id, proves, check, needs)                                                                       \
    {                                                                                                          \
        id, proves " (else a warning)", check, needs, true                                                     \
    }
const struct rule advice_rules[] = {
    ADVICE("stages-filled", "no virtual stage is without layers", stages_filled, NEEDS_NOTHING),
    ADVICE("stages-balanced",
           "no other split of the layers would leave the busiest stage with 5% less to compute",
           stages_balanced, NEEDS_ALL),
    ADVICE("pipeline-filled", "there are at least as many microbatches as stages", pipeline_filled,
           NEEDS_NOTHING),
    ADVICE("schedule-named", "the programs are those that the named schedule makes", schedule_named, NEEDS_ALL),
    ADVICE("positions-reach", "the sequence is within the model's max_position_embeddings", positions_reach,
           NEEDS_NOTHING),
    ADVICE("cluster-known", "the machine's figures are those of the preset of its name", cluster_known,
           NEEDS_NOTHING),
    ADVICE("nodes-in-order", "ranks fill the nodes in order", nodes_in_order, NEEDS_NOTHING),
    ADVICE("tp-width", "tp and etp are no wider than a node", tp_width, NEEDS_NOTHING),
    ADVICE("nodes-local", "every tp and etp group is on one node", nodes_local, NEEDS_NOTHING),
    ADVICE("groups-compact", "no cp, ep or kv group is on more nodes than its size needs", groups_compact,
           NEEDS_ALL),
    ADVICE("experts-in-order", "every ep rank has consecutive experts", experts_in_order, NEEDS_ALL),
    ADVICE("capacity-balanced", "the capacity factor drops no token when loads are even", capacity_balanced,
           NEEDS_ALL),
    ADVICE("memory-skewed", "memory is reserved for uneven loads, and for how uneven ones there is enough",
           memory_skewed, NEEDS_ALL),
    ADVICE("zero-divides", "what ZeRO cuts divides over its replicas with less than 1% of padding",
           zero_divides, NEEDS_ALL),
    ADVICE("buckets-several", "with overlap, gradients to be summed are several buckets", buckets_several,
           NEEDS_ALL),
    ADVICE("snapshot-fits", "the machine has memory for checkpoints to be written beside training",
           snapshot_fits, NEEDS_ALL),
    ADVICE("save-interval",
           "saves and failures lose less than 10% of the time at Young's interval, with --save-every at most "
           "twice "
           "as much",
           save_interval, NEEDS_ALL),
    ADVICE("runnable", "moe-train can run it, it is not for planning only", runnable, NEEDS_NOTHING),
    ADVICE("sealed", "the sum over the text is there and right", sealed, NEEDS_NOTHING),
};
const int advice_rule_count = sizeof advice_rules / sizeof *advice_rules;
