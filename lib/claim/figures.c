/* SPDX-License-Identifier: MIT */
#include "claim/figures.h"

#include <math.h>

#include "base/error.h"
#include "base/num.h"
#include "cost/cluster.h"
#include "cost/seconds.h"
#include "plan/schedule.h"

typedef long long ll;

/* ---- seconds: all from the step's ---- */

static void of_step(const struct plan *p, struct known_value *f)
{
    struct seconds t;
    double busy = 0;
    if (plan_seconds(p, 1, &t) < 0 || isnan(t.step_s)) {
        error_clear();
        found_is(f, NAN, NO_SECONDS);
        return;
    }
    for (int i = 0; i < PARTS; i++)
        busy += t.part_s[i];
    found_is(f, t.step_s,
             "%.4g s of stage %d (%.4g s of it waiting for the host) + %.4g s idle + %.4g s gradients + %.4g s "
             "optimizer",
             busy, t.slowest, t.part_s[PART_HOST], t.idle_s, t.dp_s, t.optimizer_s);
    f->error = SECONDS_ERROR;
}

static void of_rate(const struct plan *p, enum figure_id id, struct known_value *f)
{
    double step = p->predict.step_s, g = (double)p->batch.global, s = (double)p->batch.seq;
    double peak = machine_peak(&p->machine, p->training.precision);
    if (isnan(step)) {
        found_is(f, NAN, NO_SECONDS);
        return;
    }
    if (id == FIGURE_tokens_per_s)
        found_is(f, g * s / step, "%.0f sequences * %.0f tokens / %.4g s", g, s, step);
    else if (id == FIGURE_sequences_per_s)
        found_is(f, g / step, "%.0f sequences / %.4g s", g, step);
    else if (id == FIGURE_microbatch_s)
        found_is(f, step / (double)p->batch.microbatches, "%.4g s / %lld microbatches", step,
                 (ll)p->batch.microbatches);
    else
        found_is(f, id == FIGURE_mfu ? p->predict.mfu : p->predict.hfu,
                 "%.4g tokens/s * %.4g GFLOP%s / (%d ranks * %.4g TFLOP/s)", p->predict.tokens_per_s,
                 p->predict.flops_per_token / 1e9, id == FIGURE_hfu ? ", with what is computed again," : "",
                 p->world, peak / 1e12);
    f->error = SECONDS_ERROR;
}

static void of_communication(const struct plan *p, enum figure_id id, struct known_value *f)
{
    struct seconds t;
    if (id == FIGURE_overlap && !p->training.overlap) {
        found_is(f, 0, "the plan has overlap off: nothing hides communication");
        return;
    }
    if (id == FIGURE_overlap || plan_seconds(p, 1, &t) < 0 || isnan(t.step_s)) {
        error_clear();
        found_is(f, NAN, id == FIGURE_overlap ? "the formulas give no share: a log would (--log)" : NO_SECONDS);
        return;
    }
    double exposed = t.part_s[PART_TP] + t.part_s[PART_DISPATCH] + t.dp_s;
    found_is(f, exposed / t.step_s, "(%.4g s tp + %.4g s dispatch + %.4g s gradients) / %.4g s",
             t.part_s[PART_TP], t.part_s[PART_DISPATCH], t.dp_s, t.step_s);
    f->error = SECONDS_ERROR;
}

/* ---- the schedule and memory: exact ---- */

static void of_bubble(const struct plan *p, struct known_value *f)
{
    ll pp = p->axes.pp, m = p->batch.microbatches, v = p->axes.vpp;
    const char *name = plan_schedule(p)->name;
    found_is(f, p->predict.bubble,
             "%s of %lld stages%s, %lld microbatches: (%lld-1)/(%lld+%lld-1) by its formula", name, pp,
             v > 1 ? " in chunks" : "", m, pp,
             v > 1                      ? v * m
             : plan_schedule(p)->splits ? 3 * m
                                        : m,
             pp);
}

static void of_memory(const struct plan *p, enum figure_id id, struct known_value *f)
{
    const struct predict *x = &p->predict;
    char a[24], b[24], c[24], d[24];
    if (id == FIGURE_memory_used && !(p->machine.memory_bytes > 0))
        found_is(f, NAN, "the cluster does not say how much memory a rank has");
    else if (id == FIGURE_memory_used)
        found_is(f, x->memory_bytes / p->machine.memory_bytes, "%s of rank %d / %s",
                 human_bytes(x->memory_bytes, a), x->memory_rank, human_bytes(p->machine.memory_bytes, b));
    else if (id == FIGURE_memory_bytes)
        found_is(f, x->memory_bytes, "rank %d: %s states + %s activations + %s workspace = %s", x->memory_rank,
                 human_bytes(x->state_bytes, a), human_bytes(x->activation_bytes, b),
                 human_bytes(x->workspace_bytes, c), human_bytes(x->memory_bytes, d));
    else
        found_is(f,
                 id == FIGURE_state_bytes        ? x->state_bytes
                 : id == FIGURE_activation_bytes ? x->activation_bytes
                                                 : x->workspace_bytes,
                 "of rank %d, which needs most", x->memory_rank);
}

static void of_plan(const struct plan *p, enum figure_id id, struct known_value *f)
{
    switch (id) {
    case FIGURE_step_s:
        of_step(p, f);
        return;
    case FIGURE_step_skewed_s:
        found_is(f, p->predict.step_skewed_s,
                 "a step with loads of the experts %g times the mean on the worst rank", p->routing.lambda);
        f->error = SECONDS_ERROR;
        return;
    case FIGURE_tokens_per_s:
    case FIGURE_sequences_per_s:
    case FIGURE_microbatch_s:
    case FIGURE_mfu:
    case FIGURE_hfu:
        of_rate(p, id, f);
        return;
    case FIGURE_overlap:
    case FIGURE_exposed_share:
        of_communication(p, id, f);
        return;
    case FIGURE_bubble:
        of_bubble(p, f);
        return;
    case FIGURE_flops_per_token:
        found_is(f, p->predict.flops_per_token, "%s at %lld tokens, top-%lld", p->model.name, (ll)p->batch.seq,
                 (ll)p->model.top_k);
        return;
    case FIGURE_memory_bytes:
    case FIGURE_memory_used:
    case FIGURE_state_bytes:
    case FIGURE_activation_bytes:
    case FIGURE_workspace_bytes:
        of_memory(p, id, f);
        return;
    default:
        found_is(f, NAN, "only a run tells: give its log (--log)");
    }
}

void figure_find_value(const struct about *a, const struct figure *x, struct known_value *f)
{
    enum figure_id id = (enum figure_id)(x - figure_table);
    if (!a->log || !(x->origin & MEASURED))
        of_plan(a->p, id, f);
    else if (isnan(figure_value(a->log, x)))
        found_is(f, NAN, "the log does not tell");
    else
        found_is(f, figure_value(a->log, x), "measured");
}
