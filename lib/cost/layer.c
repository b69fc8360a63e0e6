/* SPDX-License-Identifier: MIT */
#include "cost/layer.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "cost/cluster.h"
#include "plan/schedule.h"
#include "plan/slots.h"

const char *const part_name[PARTS] = {
    [PART_MATRIX] = "dense products",         [PART_ATTENTION] = "attention",
    [PART_EXPERTS] = "experts' products",     [PART_MEMORY] = "memory-bound",
    [PART_HEAD] = "logits and loss",          [PART_TP] = "tensor-parallel communication",
    [PART_DISPATCH] = "dispatch and combine", [PART_HOST] = "waiting for the host",
};

int costing_init(struct costing *c, const struct plan *p, int pp, double lambda)
{
    int rank = 0;
    while (rank < p->world - 1 && p->ranks[rank].pp != pp)
        rank++;
    TRY(costing_of_shape(c, p, lambda, NULL));
    c->tp = group_reach(p, GROUP_TP, rank);
    c->cp = group_reach(p, GROUP_CP, rank);
    c->ep = group_reach(p, GROUP_EP, rank);
    c->etp = group_reach(p, GROUP_ETP, rank);
    return 0;
}

int costing_of_shape(struct costing *c, const struct plan *p, double lambda, const struct curve *curve)
{
    const struct machine *m = &p->machine;
    const struct reach alone = {1, 1};
    *c = (struct costing){.p = p,
                          .lambda = p->axes.ep > 1 ? lambda * plan_unevenness(p) : 1,
                          .local = (double)plan_most_slots(p),
                          .tp = alone,
                          .cp = alone,
                          .ep = alone,
                          .etp = alone,
                          .n = (double)plan_local_tokens(p),
                          .e = (double)plan_type_bytes(p)};
    c->T = c->n * (double)p->axes.tp;
    c->rate = machine_peak(m, p->training.precision);
    c->attend = p->training.precision == PRECISION_FP8 ? m->flops_bf16 : c->rate;
    if (!(c->rate > 0 && c->attend > 0 && m->memory_Bps > 0))
        c->rate = NAN;
    if (!curve)
        return curve_parse(&c->curve, m->efficiency);
    c->curve = *curve;
    return 0;
}

static double memory_s(const struct costing *c, double bytes)
{
    return bytes / (MEMORY_SHARE * c->p->machine.memory_Bps);
}

double weight_bytes(double e, double n, double k)
{
    return (2 * e + 8) / 3 * n * k;
}

/* `count` products of [m,k] by [k,n]. */
static double product_s(const struct costing *c, double m, double n, double k, double count)
{
    double work = 2 * m * n * k, bytes = c->e * (m * k + k * n + m * n);
    if (!(work > 0))
        return 0;
    if (c->p->machine.device == DEVICE_CPU)
        return count *
               (work / (c->rate * curve_share(&c->curve, work)) + memory_s(c, weight_bytes(c->e, n, k)));
    double quantised = c->p->training.precision == PRECISION_FP8 ? memory_s(c, 4 * m * k) : 0;
    return count * (fmax(work / (c->rate * curve_share(&c->curve, work)), memory_s(c, bytes)) + quantised);
}

/* A product of T tokens, or of the local ones where no rank has a part of the matrix. */
static double matrix_s(const struct costing *c, const struct tensor *t, double rows)
{
    double tp = (double)c->p->axes.tp, cols = (double)t->cols;
    switch (t->cut) {
    case CUT_NONE:
        return product_s(c, c->n, rows, cols, 1);
    case CUT_COLS:
        return product_s(c, c->T, rows, cols / tp, 1);
    case CUT_KV:
        return product_s(c, c->T, rows / fmin(tp, (double)c->p->model.kv_heads), cols, 1);
    default:
        return product_s(c, c->T, rows / tp, cols, 1);
    }
}

/* The matrices of a layer's dense part. Those that follow each other on one input (q|k|v, gate|up) are one
 * product. */
static double dense_matrices_s(const struct costing *c, int layer)
{
    double sum = 0, rows = 0;
    struct tensor open = {0}, t;
    for (int k = T_INPUT_NORM; k < T_FINAL_NORM; k++) {
        if (!tensor_multiplies(k) || !inventory_tensor(&c->p->model, k, layer, &t) || tensor_of_experts(&t))
            continue;
        bool joins = rows > 0 && t.cols == open.cols && t.cut != CUT_COLS && open.cut != CUT_COLS &&
                     t.cut != CUT_NONE && k - (int)open.kind <= 2;
        if (rows > 0 && !joins)
            sum += matrix_s(c, &open, rows);
        if (!joins) {
            open = t;
            rows = 0;
        }
        rows += (double)t.rows;
    }
    return rows > 0 ? sum + matrix_s(c, &open, rows) : sum;
}

static double keys_of(const struct costing *c, int64_t layer)
{
    double half = (double)c->p->batch.seq / 2;
    return c->p->model.mixer[layer] == MIX_WINDOW ? fmin(half, (double)c->p->model.window) : half;
}

static void add_mixer(const struct costing *c, int64_t layer, struct layer_cost *x)
{
    const struct model *m = &c->p->model;
    double tp = (double)c->p->axes.tp, wide, kv = 2 * (double)model_kv_dim(m);
    if (m->mixer[layer] == MIX_LINEAR) {
        const struct linear *l = &m->linear;
        double state = 4 * (double)l->value_heads * (double)l->value_dim * (double)l->value_dim;
        double s = 2 * c->T / tp * state / (c->attend * LINEAR_SHARE);
        x->s[PASS_F][PART_ATTENTION] += s;
        x->s[PASS_B][PART_ATTENTION] += 2.5 * s;
        wide = (double)(2 * linear_keys(m) + linear_values(m));
    } else {
        double work =
            2 * c->T * keys_of(c, layer) * (double)m->heads / tp * (double)(m->head_dim + m->value_dim);
        x->s[PASS_F][PART_ATTENTION] += work / (c->attend * ATTENTION_SHARE);
        x->s[PASS_B][PART_ATTENTION] += 2.5 * work / (c->attend * ATTENTION_SHARE_BACK);
        wide = (double)(model_q_dim(m) + model_kv_dim(m)) * (m->qk_norm ? 2 : 1);
    }
    x->s[PASS_F][PART_MEMORY] +=
        memory_s(c, c->e * 2 * c->T * wide / tp); /* norms of q and k, RoPE, convolution */
    if (c->cp.ranks > 1) {
        double s = gather_s(&c->p->machine, c->cp, c->e * c->T * (double)c->cp.ranks * kv / tp);
        x->s[PASS_F][PART_TP] += s;
        x->s[PASS_B][PART_TP] += 2 * s;
    }
}

/* Rows that go out while `out_s` of computing do, and come back beside `back_s`: what these cover is hidden. */
static void hide(struct layer_cost *x, enum pass pass, double sent, double cut, double out_s, double back_s)
{
    double each = (sent + cut) / 2, hidden = fmin(each, out_s) + fmin(each, back_s);
    x->s[pass][PART_DISPATCH] -= fmin(hidden, sent);
    x->s[pass][PART_TP] -= fmax(0, hidden - sent);
}

/* What moe-train computes beside the experts' rows (engine/layer.c, engine/moe.c). Forward the two halves of
 * the shared expert. Backward, while gradients go out, its down projection and, unless the schedule has an
 * operation for them, its weights; while they come back the weights of the experts' gate and up. Processors
 * move rows themselves, so that nothing hides it there. */
static void hide_rows(const struct costing *c, struct layer_cost *x, double sent, double cut, double experts)
{
    const struct plan *p = c->p;
    if (!p->training.overlap || p->training.dispatcher != DISPATCHER_ALLTOALL ||
        p->machine.device == DEVICE_CPU)
        return;
    double M = (double)p->model.shared_ffn / (double)p->axes.tp, H = (double)p->model.hidden;
    double up = product_s(c, c->T, 2 * M, H, 1), down = product_s(c, c->T, H, M, 1);
    bool splits = plan_schedule(p)->splits;
    hide(x, PASS_F, sent, cut, up, down);
    hide(x, PASS_B, sent, cut, down + (splits ? 0 : up + down), splits ? 0 : experts);
}

/* Products, rows and communication of an MoE layer's experts. */
static void add_experts(const struct costing *c, struct layer_cost *x)
{
    const struct plan *p = c->p;
    const struct model *m = &p->model;
    double H = (double)m->hidden, K = (double)m->top_k, etp = (double)p->axes.etp,
           F = (double)m->expert_ffn / etp;
    double local = c->local, R = c->n * K * etp * c->lambda;
    double up = product_s(c, R / local, 2 * F, H, local), products = up + product_s(c, R / local, H, F, local);
    x->s[PASS_F][PART_EXPERTS] += products;
    x->s[PASS_B][PART_EXPERTS] += products;
    x->s[PASS_W][PART_EXPERTS] += products;
    /* the router; sorted to be sent and when they have come, and so back; SwiGLU */
    x->s[PASS_F][PART_MATRIX] += product_s(c, c->n, (double)m->experts, H, 1);
    double sorted = 4 * c->n * K * H + (p->axes.ep * p->axes.etp > 1 ? 4 * R * H : 0);
    x->s[PASS_F][PART_MEMORY] += memory_s(c, c->e * (sorted + 3 * R * F) + 16 * c->n * (double)m->experts);
    double sent = p->axes.ep > 1 ? 2 * dispatch_s(p, c->ep, c->n, c->e * H, c->lambda) : 0;
    double cut = p->axes.etp > 1 ? 2 * gather_s(&p->machine, c->etp, c->e * R * H) : 0;
    for (int pass = PASS_F; pass <= PASS_B; pass++) {
        x->s[pass][PART_DISPATCH] += sent;
        x->s[pass][PART_TP] += cut;
    }
    hide_rows(c, x, sent, cut, up);
}

/* What recompute repeats is in B, as is what the host is longer at. */
static void finish(const struct costing *c, struct layer_cost *x, double ops)
{
    if (c->p->training.precision == PRECISION_FP8)
        ops *= 1.5;
    double back = 2 * ops;
    x->s[PASS_B][PART_MEMORY] += 2 * x->s[PASS_F][PART_MEMORY];
    if (c->p->training.recompute == RECOMPUTE_SELECTIVE) {
        x->s[PASS_B][PART_MEMORY] += x->s[PASS_F][PART_MEMORY];
    } else if (c->p->training.recompute == RECOMPUTE_FULL) {
        for (int i = 0; i < PARTS; i++)
            x->s[PASS_B][i] += x->s[PASS_F][i];
        back += ops;
    }
    /* Of fused dispatch another microbatch's: what its computing does not cover stays, a tenth at least. */
    if (c->p->training.overlap && c->p->training.dispatcher != DISPATCHER_ALLTOALL)
        for (int pass = 0; pass < PASSES; pass++) {
            double *sent = &x->s[pass][PART_DISPATCH], computing = pass_s(x, pass) - *sent;
            *sent = fmax(0.1 * *sent, *sent - computing);
        }
    double f = pass_s(x, PASS_F), b = pass_s(x, PASS_B) + pass_s(x, PASS_W);
    x->s[PASS_F][PART_HOST] = fmax(0, c->p->machine.host_s * ops - f);
    x->s[PASS_B][PART_HOST] = fmax(0, c->p->machine.host_s * back - b);
}

void cost_of_layer(struct costing *c, int64_t layer, struct layer_cost *x)
{
    const struct plan *p = c->p;
    const struct model *m = &p->model;
    double tp = (double)p->axes.tp, nH = c->n * (double)m->hidden;
    int64_t mlp = m->moe[layer] ? m->shared_ffn : m->dense_ffn;
    *x = (struct layer_cost){0};
    double *matrices = &c->dense_s[model_layer_kind(m, layer)];
    if (*matrices == 0)
        *matrices = dense_matrices_s(c, (int)layer);
    for (int pass = 0; pass < PASSES; pass++)
        x->s[pass][PART_MATRIX] = *matrices;
    /* two norms, two residuals, an MLP's SwiGLU */
    x->s[PASS_F][PART_MEMORY] = memory_s(c, c->e * (2 * 2 * nH + 2 * 3 * nH + 3 * c->T * (double)mlp / tp));
    add_mixer(c, layer, x);
    if (m->moe[layer])
        add_experts(c, x);
    if (c->tp.ranks > 1) {
        double s = gather_s(&p->machine, c->tp, c->e * c->T * (double)m->hidden), blocks = mlp ? 2 : 1;
        x->s[PASS_F][PART_TP] += 2 * blocks * s;
        x->s[PASS_B][PART_TP] += 3 * blocks * s;
    }
    double ops = OPS_ATTENTION + (mlp ? OPS_MLP : 0);
    if (m->moe[layer])
        ops += OPS_MOE + OPS_EXPERT * c->local +
               (p->axes.ep == 1                                 ? 0
                : p->training.dispatcher == DISPATCHER_ALLTOALL ? OPS_ALLTOALL
                                                                : OPS_FUSED_DISPATCH);
    finish(c, x, ops);
}

void cost_of_ends(const struct costing *c, bool first, bool last, struct layer_cost *x)
{
    const struct plan *p = c->p;
    const struct model *m = &p->model;
    double H = (double)m->hidden, V = (double)m->vocab / (double)p->axes.tp;
    *x = (struct layer_cost){0};
    if (first)
        x->s[PASS_F][PART_MEMORY] += memory_s(c, c->e * 3 * c->T * H);
    if (last) {
        double logits = product_s(c, c->T, V, H, 1);
        x->s[PASS_F][PART_HEAD] =
            logits + memory_s(c, c->T * V * (c->e + 12)); /* the loss reads them thrice, in f32 */
        x->s[PASS_B][PART_HEAD] = logits + memory_s(c, c->T * V * (c->e + 4));
        x->s[PASS_W][PART_HEAD] = logits;
    }
    if (first || last)
        finish(c, x, OPS_ENDS);
    if (c->tp.ranks > 1 && (first || last)) {
        double s = gather_s(&p->machine, c->tp, c->e * c->T * H);
        x->s[PASS_F][PART_TP] += (first + last) * s;
        x->s[PASS_B][PART_TP] += (first + last) * s;
    }
}

double pass_s(const struct layer_cost *c, enum pass pass)
{
    double sum = 0;
    for (int i = 0; i < PARTS; i++)
        sum += c->s[pass][i];
    return sum;
}
