/* SPDX-License-Identifier: MIT */
#include "claim/facts.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/num.h"
#include "cost/seconds.h"
#include "plan/axes.h"
#include "plan/layout.h"
#include "plan/schedule.h"
#include "plan/slots.h"

typedef long long ll;

void found_is(struct known_value *f, double value, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    *f = (struct known_value){.value = value};
    vsnprintf(f->how, sizeof f->how, fmt, args);
    va_end(args);
}

static void no_experts(struct known_value *f)
{
    found_is(f, NAN, "the model has no experts");
}

/* ---- what a rank holds ---- */

static void experts_per_rank(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    if (p->model.moe_layers == 0)
        no_experts(f);
    else
        found_is(f, (double)plan_most_slots(p), "%lld experts / ep %lld; of each 1/%lld, by etp",
                 (ll)p->model.experts, (ll)p->axes.ep, (ll)p->axes.etp);
}

static void hidden_per_rank(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    found_is(f, (double)p->model.hidden / (double)p->axes.tp, "hidden %lld / tp %lld, of what tp cuts",
             (ll)p->model.hidden, (ll)p->axes.tp);
}

static void layers_per_stage(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    int64_t least = p->model.layers, most = 0;
    for (int pp = 0; pp < p->axes.pp; pp++) {
        int64_t n = 0;
        for (int i = 0; i < p->stage_count; i++)
            n += p->stages[i].pp == pp ? p->stages[i].layers : 0;
        least = min64(least, n);
        most = max64(most, n);
    }
    char uneven[48] = "";
    if (least != most)
        snprintf(uneven, sizeof uneven, "; the smallest has %lld", (ll)least);
    found_is(f, (double)most, "%lld layers / pp %lld, in %lld virtual stages each%s", (ll)p->model.layers,
             (ll)p->axes.pp, (ll)p->axes.vpp, uneven);
}

static void expert_replicas(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    found_is(f, (double)p->axes.edp, "edp: ranks that hold the same experts");
}

/* ---- capacity ---- */

double capacity_with(const struct plan *p, int64_t seq, int64_t top_k, double factor)
{
    struct plan q = *p;
    q.batch.seq = seq;
    q.model.top_k = top_k;
    q.routing.capacity = factor;
    return (double)plan_expert_capacity(&q, p->routing.local_scope ? plan_local_tokens(&q)
                                                                   : plan_microbatch_tokens(&q));
}

static void expert_capacity(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    double factor = isnan(a->arg) ? p->routing.capacity : a->arg;
    int64_t tokens = p->routing.local_scope ? plan_local_tokens(p) : plan_microbatch_tokens(p);
    if (p->model.moe_layers == 0)
        no_experts(f);
    else if (!(factor > 0))
        found_is(f, NAN, "the plan drops nothing: it has no capacity; name a factor, expert_capacity/1.2");
    else
        found_is(f, capacity_with(p, p->batch.seq, p->model.top_k, factor),
                 "ceil(%lld tokens * top-%lld / %lld experts * %g)", (ll)tokens, (ll)p->model.top_k,
                 (ll)p->model.experts, factor);
}

/* ---- communication and scaling ---- */

static void link_used(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    struct seconds t;
    if (plan_seconds(p, 1, &t) < 0 || isnan(t.step_s)) {
        error_clear();
        found_is(f, NAN, NO_SECONDS);
        return;
    }
    double sending = t.part_s[PART_TP] + t.part_s[PART_DISPATCH] + t.dp_s;
    found_is(f, LINK_SHARE * sending / t.step_s,
             "%.3g of a link's rate while it sends, which is (%.4g s tp + %.4g s dispatch + %.4g s gradients) "
             "of %.4g s",
             LINK_SHARE, t.part_s[PART_TP], t.part_s[PART_DISPATCH], t.dp_s, t.step_s);
    f->error = SECONDS_ERROR;
}

static void gpu_busy(const struct about *a, struct known_value *f)
{
    struct seconds t;
    if (a->log) {
        double idle = a->log->idle_share;
        found_is(f, 1 - idle, isnan(idle) ? "the log has no idle time" : "1 - idle_share %.4g", idle);
        return;
    }
    if (plan_seconds(a->p, 1, &t) < 0 || isnan(t.step_s)) {
        error_clear();
        found_is(f, NAN, NO_SECONDS);
        return;
    }
    found_is(f, 1 - (t.part_s[PART_HOST] + t.idle_s) / t.step_s,
             "all of a step but %.4g s of waiting for the host and %.4g s in the pipeline, of %.4g s",
             t.part_s[PART_HOST], t.idle_s, t.step_s);
    f->error = SECONDS_ERROR;
}

/* The same batch on one rank of unbounded memory: no communication, no other stage to wait for. */
static int one_rank_seconds(const struct plan *p, double *step_s)
{
    struct seconds t;
    struct stage all = {.layers = (int)p->model.layers};
    struct plan one = {
        .model = p->model,
        .inventory = p->inventory,
        .world = 1,
        .axes = {1, 1, 1, 1, 1, 1, 1, 1, DEFAULT_ORDER},
        .batch = p->batch,
        .routing = p->routing,
        .training = p->training,
        .machine = p->machine,
        .stages = &all,
        .stage_count = 1,
    };
    one.batch.microbatches = p->batch.global / p->batch.micro;
    one.training.schedule = schedule_default(1);
    layout_make(&one);
    schedule_make(&one);
    int r = plan_seconds(&one, 1, &t);
    *step_s = t.step_s;
    one.model = (struct model){0}; /* p's, as is the inventory */
    one.inventory = (struct inventory){0};
    one.stages = NULL;
    plan_release(&one);
    return r;
}

static void scaling(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    double one, here = p->predict.step_s;
    if (isnan(here) || one_rank_seconds(p, &one) < 0) {
        error_clear();
        found_is(f, NAN, NO_SECONDS);
        return;
    }
    found_is(f, one / (p->world * here), "%.4g s on one rank, had it the memory, / (%d ranks * %.4g s)", one,
             p->world, here);
    f->error = SECONDS_ERROR;
}

/* ---- checkpoints and losses ---- */

static void save_every(const struct about *a, struct known_value *f)
{
    if (!a->log)
        found_is(f, NAN, "a plan does not tell, it is an option of the run: a log would (--log)");
    else if (!(a->log->saves > 0))
        found_is(f, NAN, "the log has no checkpoint");
    else
        found_is(f, a->log->steps / a->log->saves, "%.0f steps / %.0f checkpoints", a->log->steps,
                 a->log->saves);
}

static void expert_files(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    found_is(f, p->model.moe_layers ? (double)p->model.experts : 0,
             "a step directory has expert-NNN.safetensors for each of %lld experts, all layers in it, and "
             "dense.safetensors",
             (ll)p->model.experts);
}

static void experts_after_loss(const struct about *a, struct known_value *f)
{
    const struct plan *p = a->p;
    int64_t here = plan_most_slots(p);
    if (p->model.moe_layers == 0)
        no_experts(f);
    else if (p->axes.edp > 1)
        found_is(f, (double)p->model.experts,
                 "nothing is lost: %lld other ranks hold the same experts (edp %lld)", (ll)p->axes.edp - 1,
                 (ll)p->axes.edp);
    else
        found_is(f, (double)(p->model.experts - here),
                 "%lld - %lld that no other rank holds, in the layers of its stage only%s",
                 (ll)p->model.experts, (ll)here,
                 p->axes.pp > 1 ? "; a config has one count, so other layers must drop as many" : "");
}

const struct fact facts[] = {
    {"experts_per_rank", UNIT_COUNT, NULL, "experts of a layer that a rank holds, or shares with its etp group",
     experts_per_rank},
    {"expert_replicas", UNIT_COUNT, NULL, "ranks that hold the same experts", expert_replicas},
    {"hidden_per_rank", UNIT_COUNT, NULL, "columns of the hidden dimension that a rank has of what tp cuts",
     hidden_per_rank},
    {"layers_per_stage", UNIT_COUNT, NULL, "layers of a pipeline rank, the largest", layers_per_stage},
    {"expert_capacity", UNIT_COUNT, "a capacity factor",
     "rows of a microbatch that an expert takes, with this factor or the plan's", expert_capacity},
    {"link_used", UNIT_RATIO, NULL, "share of the links' rate that is used over a step", link_used},
    {"scaling", UNIT_RATIO, NULL,
     "tokens a second over those of one rank of unbounded memory times the number of ranks", scaling},
    {"gpu_busy", UNIT_RATIO, NULL,
     "share of a step in which a device computes or sends: all but waiting for the host or for other stages",
     gpu_busy},
    {"save_every", UNIT_COUNT, NULL, "steps between checkpoints", save_every},
    {"expert_files", UNIT_COUNT, NULL, "files of a checkpoint that hold experts", expert_files},
    {"experts_after_loss", UNIT_COUNT, NULL, "experts that are whole when one rank is lost",
     experts_after_loss},
    {NULL},
};
