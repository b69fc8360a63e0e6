/* SPDX-License-Identifier: MIT */
#include "engine/losses.h"

/* ---- load balancing, the form of Switch (arXiv 2101.03961): coef · E/(K·T²) · Σ_e P_e·C_e ----
 *
 * With all loads equal, P_e = T/E and C_e = K·T/E, it is coef: E/(K·T²) · E · T/E · K·T/E = 1. The choices have
 * no gradient, so to each p_te it is coef · E/(K·T²) · C_e, the same for all tokens: [E] numbers, `aux` of the
 * layer. */
static double balance_factor(const struct engine *e, double coef)
{
    double T = (double)e->T;
    return coef * (double)e->E / ((double)e->K * T * T);
}

static double balance_value(const struct engine *e, double coef, const float *stats)
{
    double sum = 0;
    for (int64_t i = 0; i < e->E; i++)
        sum += (double)stats[i] * stats[e->E + i];
    return balance_factor(e, coef) * sum;
}

static void balance_keep(struct engine *e, double coef, struct acts *a, const float *stats)
{
    double times = fault("aux-counted-tp-times") ? e->tp : 1;
    e->be->convert(e->s, &OP(convert, .count = e->E, .x = stats + e->E, .y = a->aux, .from = F32, .to = F32,
                             .scale = (float)(times * balance_factor(e, coef) * e->aux_scale)));
}

static void balance_gradient(const struct engine *e, double coef, const struct acts *a,
                             struct router_backward *op)
{
    op->aux = coef != 0 ? a->aux : NULL;
}

/* ---- router z-loss (ST-MoE, arXiv 2202.08906): coef/T · Σ_t lse_t² ----
 *
 * d lse/d logit_e = softmax_e, so the gradient is 2·coef/T · lse_t · softmax_te; the last two are in the
 * operation. */
static double z_value(const struct engine *e, double coef, const float *stats)
{
    return coef * stats[2 * e->E] / (double)e->T;
}

static void z_gradient(const struct engine *e, double coef, const struct acts *a, struct router_backward *op)
{
    op->z = (float)(2 * coef / (double)e->T * e->aux_scale);
}

static const struct loss {
    /* Of one layer and microbatch, with its coefficient. */
    double (*value)(const struct engine *e, double coef, const float *stats);
    /* What backward needs of the statistics; NULL: nothing. */
    void (*keep)(struct engine *e, double coef, struct acts *a, const float *stats);
    /* What the operation needs to add the gradient: times e->aux_scale, as the step's loss is a mean. */
    void (*gradient)(const struct engine *e, double coef, const struct acts *a, struct router_backward *op);
} losses[ROUTER_LOSSES] = {
    [LOSS_AUX] = {.value = balance_value, .keep = balance_keep, .gradient = balance_gradient},
    [LOSS_Z] = {.value = z_value, .gradient = z_gradient},
};

void losses_count(struct engine *e, const float *host)
{
    for (int i = 0; i < ROUTER_LOSSES; i++)
        e->totals.router_loss[i] += losses[i].value(e, e->loss_coef[i], host);
}

void losses_keep(struct engine *e, struct acts *a, const float *stats)
{
    for (int i = 0; i < ROUTER_LOSSES; i++)
        if (losses[i].keep)
            losses[i].keep(e, e->loss_coef[i], a, stats);
}

void losses_gradient(const struct engine *e, const struct acts *a, struct router_backward *op)
{
    for (int i = 0; i < ROUTER_LOSSES; i++)
        losses[i].gradient(e, e->loss_coef[i], a, op);
}
