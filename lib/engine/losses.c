/* SPDX-License-Identifier: MIT */
#include "engine/losses.h"

#include "engine/totals.h"

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

static void balance_count(struct engine *e, double coef, const float *stats, double *total)
{
    totals_count(e, e->E, stats, stats + e->E, balance_factor(e, coef), total);
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
static void z_count(struct engine *e, double coef, const float *stats, double *total)
{
    totals_count(e, 1, stats + 2 * e->E, NULL, coef / (double)e->T, total);
}

static void z_gradient(const struct engine *e, double coef, const struct acts *a, struct router_backward *op)
{
    op->z = (float)(2 * coef / (double)e->T * e->aux_scale);
}

static const struct loss {
    /* Adds its value for one layer and microbatch, with its coefficient. */
    void (*count)(struct engine *e, double coef, const float *stats, double *total);
    /* What backward needs of the statistics; NULL: nothing. */
    void (*keep)(struct engine *e, double coef, struct acts *a, const float *stats);
    /* What the operation needs to add the gradient: times e->aux_scale, as the step's loss is a mean. */
    void (*gradient)(const struct engine *e, double coef, const struct acts *a, struct router_backward *op);
} losses[ROUTER_LOSSES] = {
    [LOSS_AUX] = {.count = balance_count, .keep = balance_keep, .gradient = balance_gradient},
    [LOSS_Z] = {.count = z_count, .gradient = z_gradient},
};

void losses_count(struct engine *e, const float *stats)
{
    for (int i = 0; i < ROUTER_LOSSES; i++)
        losses[i].count(e, e->loss_coef[i], stats, &e->arena.step->totals.router_loss[i]);
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
