/* SPDX-License-Identifier: MIT */
#include "choose/replan_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"
#include "base/ranges.h"
#include "cost/communicators.h"
#include "cost/snapshot.h"
#include "plan/shard.h"
#include "plan/slots.h"
#include "plan/states.h"

typedef long long ll;

/* ---- what is gone with them ---- */

/* Whether one replica of a part still has all its cuts: [pp] of the dense part, [pp][ep] of the experts. */
struct copies {
    bool *dense, *experts;
};

static void count_cuts(const struct replan_request *r, bool experts, bool *whole)
{
    const struct plan *p = r->old;
    const struct axes *a = &p->axes;
    int64_t cuts = experts ? a->etp : a->tp, replicas = experts ? a->edp : a->dp * a->cp,
            width = experts ? a->ep : 1;
    int *have = xcalloc((size_t)(a->pp * width * replicas), sizeof *have);
    for (int i = 0; i < p->world; i++) {
        const struct coords *at = &p->ranks[i];
        int64_t cell = at->pp * width + (experts ? at->ep : 0),
                replica = experts ? at->edp : at->dp * a->cp + at->cp;
        have[cell * replicas + replica] += !r->lost->rank[i];
    }
    for (int64_t i = 0; i < a->pp * width * replicas; i++)
        if (have[i] == cuts)
            whole[i / replicas] = true;
    free(have);
}

/* Experts of the layer without a whole copy on ranks that stay, as ranges; caller frees. */
static char *experts_gone(const struct plan *p, const struct copies *c, int layer, int *count)
{
    int64_t E = p->model.experts, first;
    bool *there = xcalloc((size_t)E, sizeof *there);
    int *list = xcalloc((size_t)E, sizeof *list);
    *count = 0;
    for (int64_t ep = 0; ep < p->axes.ep; ep++)
        for (int64_t k = 0, n = plan_slots(p, layer, ep, &first); k < n; k++)
            if (c->experts[plan_layer_pp(p, layer) * p->axes.ep + ep])
                there[plan_slot_expert(p, layer, first + k)] = true;
    for (int e = 0; e < E; e++)
        if (!there[e])
            list[(*count)++] = e;
    char *text = ranges_text(list, *count);
    free(list);
    free(there);
    return text;
}

/* Layers that lost the same ones in a line. */
static void say_experts(const struct plan *p, const struct copies *c, FILE *out)
{
    bool any = false;
    for (int l = 0, end; l < p->model.layers; l = end) {
        int count, next;
        end = l + 1;
        if (!p->model.moe[l])
            continue;
        char *gone = experts_gone(p, c, l, &count);
        for (bool same = true; end < p->model.layers && same; end += same) {
            char *other = p->model.moe[end] ? experts_gone(p, c, end, &next) : xstrdup("-");
            same = strcmp(other, gone) == 0;
            free(other);
        }
        if (count)
            fprintf(out, "  experts     layers %d-%d: %d of %lld are whole on no rank that stays: %s\n", l,
                    end - 1, count, (ll)p->model.experts, gone);
        any = any || count;
        free(gone);
    }
    if (!any)
        fprintf(out, "  experts     all have a whole copy on ranks that stay (edp %lld%s)\n", (ll)p->axes.edp,
                plan_replicas(p) ? ", replicas" : "");
}

/* Of what the optimizer keeps the lost ranks' part, which with zero no other rank has. */
static double states_gone(const struct replan_request *r)
{
    double bytes = 0;
    const struct plan *p = r->old;
    for (int i = 0; i < p->world; i++) {
        if (!r->lost->rank[i])
            continue;
        struct shards s;
        shards_sizes(&s, p, &p->ranks[i]);
        bytes += (double)(s.sliced[FLAT_DENSE] + s.sliced[FLAT_EXPERT]) * plan_state_bytes(p);
    }
    return bytes;
}

static void say_loss(const struct replan_request *r, FILE *out)
{
    const struct plan *p = r->old;
    int *list = xcalloc((size_t)p->world, sizeof *list), count = 0, dense = 0;
    char bytes[24];
    struct copies c = {xcalloc((size_t)p->axes.pp, sizeof(bool)),
                       xcalloc((size_t)(p->axes.pp * p->axes.ep), sizeof(bool))};
    for (int i = 0; i < p->world; i++)
        if (r->lost->rank[i])
            list[count++] = i;
    char *ranks = ranges_text(list, count);
    fprintf(out, "lost          rank%s %s: %d of %d\n", plural(count), ranks, count, p->world);
    count_cuts(r, false, c.dense);
    count_cuts(r, true, c.experts);
    for (int pp = 0; pp < p->axes.pp; pp++)
        dense += c.dense[pp];
    fprintf(out, "  dense part  %s\n",
            dense == p->axes.pp ? "whole on ranks that stay" : "of some pipeline rank on no ranks that stay");
    if (p->model.moe_layers)
        say_experts(p, &c, out);
    fprintf(out, "  optimizer   %s of its states%s\n", human_bytes(states_gone(r), bytes),
            p->training.zero ? ", of which no other rank has a copy (zero 1)"
                             : ", of which each replica has a copy");
    free(ranks);
    free(list);
    free(c.dense);
    free(c.experts);
}

/* ---- what becomes of the rest ---- */

static void say_layout(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    const struct axes *a = &n->p.axes, *b = &r->old->axes;
    ll stay = r->old->world - r->lost->count;
    fprintf(out, "layout        tp %lld, cp %lld, dp %lld, pp %lld (vpp %lld); etp %lld, ep %lld, edp %lld\n",
            (ll)a->tp, (ll)a->cp, (ll)a->dp, (ll)a->pp, (ll)a->vpp, (ll)a->etp, (ll)a->ep, (ll)a->edp);
    fprintf(out, "  was         tp %lld, cp %lld, dp %lld, pp %lld (vpp %lld); etp %lld, ep %lld, edp %lld\n",
            (ll)b->tp, (ll)b->cp, (ll)b->dp, (ll)b->pp, (ll)b->vpp, (ll)b->etp, (ll)b->ep, (ll)b->edp);
    fprintf(out, "  ranks       %d of the %lld that stay, on %lld nodes; %s\n", n->p.world, stay,
            (ll)n->p.machine.nodes,
            n->kept ? "each on its node, with its part of the dense model" : "what they hold is cut anew");
}

static void say_idle(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    bool *used = xcalloc((size_t)r->old->world, sizeof *used);
    int *list = xcalloc((size_t)r->old->world, sizeof *list), count = 0;
    for (int i = 0; i < n->p.world; i++)
        used[n->was[i]] = true;
    for (int i = 0; i < r->old->world; i++)
        if (!used[i] && !r->lost->rank[i])
            list[count++] = i;
    char *ranks = ranges_text(list, count);
    if (count)
        fprintf(out, "  idle        rank%s %s, as they were\n", plural(count), ranks);
    free(ranks);
    free(list);
    free(used);
}

/* Runs of ranks that were consecutive, "0-19 were 0-19, 20-119 were 24-123". */
static void say_numbers(const struct replanned *n, FILE *out)
{
    int runs = 0;
    for (int i = 0, end; i < n->p.world; i = end, runs++) {
        for (end = i + 1; end < n->p.world && n->was[end] == n->was[end - 1] + 1;)
            end++;
        if (runs < 8)
            fprintf(out, "  rank        %d-%d %s %d-%d\n", i, end - 1, n->was[i] == i ? "is still" : "was",
                    n->was[i], n->was[end - 1]);
    }
    if (runs > 8)
        fprintf(out, "  rank        and %d runs more\n", runs - 8);
}

static void say_experts_left(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    ll least = plan_least_slots(&n->p), most = plan_most_slots(&n->p);
    if (!n->p.model.moe_layers)
        return;
    fprintf(out, "experts       %lld of %lld in every layer, ", (ll)n->p.model.experts,
            (ll)r->old->model.experts);
    fprintf(out, least == most ? "%lld a rank\n" : "%lld to %lld a rank\n", least, most);
    if (!n->drops.gone)
        return;
    char *list = drops_text(&n->drops, &r->old->model);
    fprintf(out, "  drop        moe-ckpt shrink DIR OUT --drop-experts %s\n", list);
    free(list);
}

static void say_batch(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    const struct batch *b = &n->p.batch;
    fprintf(out, "global batch  %lld", (ll)b->global);
    if (b->global != r->old->batch.global)
        fprintf(out, " (was %lld)", (ll)r->old->batch.global);
    fprintf(out, ", %lld microbatches of %lld; legal:", (ll)b->microbatches, (ll)b->micro);
    for (int k = 0; k < 4; k++)
        if (n->legal[k])
            fprintf(out, " %lld", (ll)n->legal[k]);
    fputc('\n', out);
}

static void say_read(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    double all = 0;
    char total[24], each[24];
    int64_t most = 0;
    for (int i = 0; i < n->p.world; i++) {
        int64_t bytes = snapshot_bytes(&n->p, i);
        all += (double)bytes;
        most = max64(most, bytes);
    }
    fprintf(out, "checkpoint    %s%s: %s of weights and states, %s a rank at most\n",
            "moe-train starts anew from it", n->drops.gone ? ", shrunk" : "", human_bytes(all, total),
            human_bytes((double)most, each));
}

int replan_report(const struct replan_request *r, const struct replanned *n, FILE *out)
{
    const struct predict *x = &n->p.predict, *was = &r->old->predict;
    char need[24], have[24];
    say_loss(r, out);
    say_layout(r, n, out);
    say_idle(r, n, out);
    say_numbers(n, out);
    say_experts_left(r, n, out);
    say_batch(r, n, out);
    say_read(r, n, out);
    if (isnan(x->tokens_per_s) || isnan(was->tokens_per_s))
        fprintf(out, "throughput    not known: the cluster has no rates\n");
    else
        fprintf(out, "throughput    %.4g tokens/s of %.4g, %.1f%%; a step %.4g s, was %.4g s\n",
                x->tokens_per_s, was->tokens_per_s, 100 * x->tokens_per_s / was->tokens_per_s, x->step_s,
                was->step_s);
    if (n->fastest > x->tokens_per_s * 1.005)
        fprintf(out, "  faster      ep %lld would be predicted %.4g tokens/s\n", (ll)n->fastest_ep, n->fastest);
    fprintf(out, "memory        rank %d needs most, %s", x->memory_rank, human_bytes(needed_bytes(x), need));
    if (n->p.machine.memory_bytes > 0)
        fprintf(out, " of %s", human_bytes(n->p.machine.memory_bytes, have));
    fputc('\n', out);
    return 0;
}
