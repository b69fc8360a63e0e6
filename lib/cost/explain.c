/* SPDX-License-Identifier: MIT */
#include "cost/explain.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "cost/communicators.h"
#include "cost/memory.h"
#include "cost/predict.h"
#include "cost/seconds.h"
#include "cost/simulate.h"
#include "cost/snapshot.h"
#include "plan/schedule.h"
#include "plan/slots.h"

typedef long long ll;

static void explain_experts(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    ll least = plan_least_slots(p), most = plan_most_slots(p);
    fprintf(f, "  experts        etp %lld, ep %lld, edp %lld: %lld", (ll)a->etp, (ll)a->ep, (ll)a->edp, least);
    if (most > least)
        fprintf(f, " to %lld", most);
    fprintf(f, " of %lld experts a rank\n", (ll)p->model.experts);
    if (plan_replicas(p))
        fprintf(f, "                 %lld of them replicas\n", (ll)plan_replicas(p));
}

static void explain_layout(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    const struct batch *b = &p->batch;
    fprintf(f, "%s on %d ranks of %s\n", p->model.name, p->world, p->machine.name);
    fprintf(f, "  dense part     tp %lld, cp %lld, dp %lld, pp %lld (vpp %lld)\n", (ll)a->tp, (ll)a->cp,
            (ll)a->dp, (ll)a->pp, (ll)a->vpp);
    if (p->model.moe_layers)
        explain_experts(p, f);
    fprintf(f, "  a step         %lld sequences of %lld tokens, %lld microbatch%s of %lld; %s\n", (ll)b->global,
            (ll)b->seq, (ll)b->microbatches, b->microbatches > 1 ? "es" : "", (ll)b->micro,
            plan_schedule(p)->name);
}

static void memory_line(FILE *f, const char *name, int64_t bytes, int64_t total)
{
    char text[24];
    fprintf(f, "  %-32s %10s %5.1f%%\n", name, human_bytes((double)bytes, text),
            100 * (double)bytes / (double)total);
}

static int explain_memory(const struct plan *p, int rank, FILE *f)
{
    struct memory m;
    struct simulation s;
    char need[24], have[24], name[64];
    const struct coords *at = &p->ranks[rank];
    TRY(memory_of_rank(p, rank, &m));
    TRY(plan_simulate(p, 1, 1, 1, &s));
    int held = s.in_flight[at->pp];
    int64_t beside = plan_communicator_bytes(p), total = m.total + beside;
    simulation_release(&s);
    fprintf(f, "\nmemory: rank %d (pp %d, tp %d) needs most, %s", rank, at->pp, at->tp,
            human_bytes((double)total, need));
    double room = p->machine.memory_bytes - (double)total;
    if (p->machine.memory_bytes > 0)
        fprintf(f, " of %s: %s%s", human_bytes(p->machine.memory_bytes, have),
                room < 0 ? "too much by " : "margin ", human_bytes(fabs(room), need));
    fputc('\n', f);
    memory_line(f, "weights", m.weights, total);
    memory_line(f, "gradients", m.gradients, total);
    memory_line(f, "optimizer", m.optimizer, total);
    snprintf(name, sizeof name, "activations (%d at once)", held);
    memory_line(f, name, m.activations, total);
    memory_line(f, "logits and loss", m.head, total);
    memory_line(f, "routing and rows under way", m.dispatch, total);
    memory_line(f, "scratch of communication", m.communication, total);
    if (m.scratch)
        memory_line(f, "scratch of the device", m.scratch, total);
    if (beside)
        memory_line(f, "communicators of NCCL (estimate)", beside, total);
    memory_line(f, "other workspace", m.workspace - m.head - m.dispatch - m.communication - m.scratch, total);
    if (p->model.moe_layers && p->axes.ep > 1 && !(p->routing.capacity > 0))
        fprintf(f, "  rows are reserved for %g times the mean load; more takes several passes\n",
                p->routing.lambda);
    fprintf(f, "  beside it, %s of host memory while a checkpoint is written\n",
            human_bytes((double)snapshot_bytes(p, rank), need));
    return 0;
}

static void time_line(FILE *f, const char *name, double s, double total)
{
    if (s > 0)
        fprintf(f, "  %-32s %10.4g s %5.1f%%\n", name, s, 100 * s / total);
}

static void explain_groups(const struct plan *p, int rank, FILE *f)
{
    static const enum group_kind kinds[] = {GROUP_TP, GROUP_CP, GROUP_EP, GROUP_ETP, GROUP_DP, GROUP_EDP};
    fputs("  groups:", f);
    const char *comma = "";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct reach g = group_reach(p, kinds[i], rank);
        bool of_experts = kinds[i] == GROUP_EP || kinds[i] == GROUP_ETP || kinds[i] == GROUP_EDP;
        if (g.ranks == 1 || (of_experts && !p->model.moe_layers))
            continue;
        fprintf(f, "%s %s of %lld on %lld node%s", comma, group_name[kinds[i]], (ll)g.ranks,
                (ll)ceil_div(g.ranks, g.per_node), g.ranks > g.per_node ? "s" : "");
        comma = ",";
    }
    fputs(*comma ? "\n" : " none\n", f);
}

static void explain_pipeline(const struct plan *p, const struct seconds *t, FILE *f)
{
    double busy = 0;
    for (int i = 0; i < PARTS; i++)
        busy += t->part_s[i];
    if (p->axes.pp == 1)
        return;
    fprintf(f,
            "  pipeline: stage %d of %lld computes longest, %.4g s; the one with least to do %.4g s (%.0f%%)\n",
            t->slowest, (ll)p->axes.pp, busy, t->least, 100 * t->least / busy);
    fprintf(f, "  a message between stages takes %.3g ms; even stages alone would leave %.1f%% idle\n",
            1e3 * t->pp_s, 100 * p->predict.bubble);
}

static int explain_time(const struct plan *p, FILE *f)
{
    struct seconds t;
    const struct predict *x = &p->predict;
    TRY(plan_seconds(p, 1, &t));
    if (isnan(t.step_s)) {
        fprintf(f,
                "\ntime: not known; cluster '%s' lacks the peak at this precision, memory_Bps or the speed of "
                "a link\n",
                p->machine.name);
        return 0;
    }
    fprintf(f, "\ntime: a step takes %.4g s when experts' loads are even", t.step_s);
    if (x->step_skewed_s > t.step_s)
        fprintf(f, ", up to %.4g s at lambda %g", x->step_skewed_s, p->routing.lambda);
    fprintf(f, "\n  %.4g tokens/s, MFU %.1f%%, HFU %.1f%% (Megatron's convention)\n", x->tokens_per_s,
            100 * x->mfu, 100 * x->hfu);
    for (int i = 0; i < PARTS; i++)
        time_line(f, part_name[i], t.part_s[i], t.step_s);
    time_line(f, "idle in the pipeline", t.idle_s, t.step_s);
    time_line(f, "summing gradients", t.dp_s, t.step_s);
    time_line(f, "optimizer", t.optimizer_s, t.step_s);
    explain_pipeline(p, &t, f);
    explain_groups(p, 0, f);
    return 0;
}

int plan_explain(const struct plan *p, FILE *f)
{
    struct plan q = *p; /* only its predict changes */
    TRY(plan_predict(&q));
    explain_layout(&q, f);
    TRY(explain_memory(&q, q.predict.memory_rank, f));
    TRY(explain_time(&q, f));
    if (!isnan(q.predict.step_s))
        fputs(
            "\nhow far it is from the best layout, and by which choice: moe-partition search --compare PLAN\n",
            f);
    return 0;
}
