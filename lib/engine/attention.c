/* SPDX-License-Identifier: MIT */
/* The attention block: norm, q|k|v projection, q/k norms, RoPE, causal attention, output projection, residual.
 */
#include "engine/attention.h"

#include "base/error.h"
#include "comm/collective.h"
#include "engine/linear.h"
#include "engine/norm.h"
#include "engine/parallel.h"

/* One projection (queries or keys) inside the q|k|v rows. */
struct part {
    int64_t heads, width, at; /* at: first column in q|k|v, and in q|k of qk_raw */
    struct weight *norm;
    float *sums;  /* [T] sum of squares, norms over the whole projection only */
    int64_t full; /* that projection's width over all ranks, shared heads counted as often as they are held */
};

static void parts(struct engine *e, struct layer *w, struct acts *a, struct part out[2])
{
    struct arena *m = &e->arena;
    out[0] = (struct part){
        .heads = m->heads, .width = m->q, .at = 0, .norm = &w->q_norm, .sums = a->qk_ss, .full = m->q * e->tp};
    out[1] = (struct part){
        .heads = m->kv_heads, .width = m->kv, .at = m->q, .norm = &w->k_norm, .full = m->kv * e->tp};
    out[1].sums = a->qk_ss ? a->qk_ss + e->T : NULL;
}

static void *column(struct engine *e, const void *base, int64_t at)
{
    return (char *)base + (size_t)at * type_bytes(e->type);
}

static struct rope rope_of(struct engine *e, void *qkv, const struct part *p, bool inverse)
{
    struct arena *m = &e->arena;
    return OP(rope, .rows = e->T, .seq = e->plan->batch.seq, .heads = p->heads, .head_dim = e->model->head_dim,
              .rotary = e->model->rotary_dim, .x = column(e, qkv, p->at), .ld = m->q + 2 * m->kv,
              .cos_sin = m->cos_sin, .inverse = inverse, .type = e->type);
}

/* x [T] sums over the tp group, for norms that span ranks. */
static int sum_over_tp(struct engine *e, float *x, int64_t count)
{
    if (e->tp == 1 || fault("qk-norm-local"))
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_TP);
    int r = all_reduce(e->group[GROUP_TP], e->s, x, count);
    profile_enter(&e->profile, before);
    return r;
}

/* Norm of one projection, from its copy in qk_raw back into q|k|v. */
static int qk_norm_forward(struct engine *e, struct acts *a, const struct part *p)
{
    struct arena *m = &e->arena;
    int64_t ld = m->q + 2 * m->kv, ld_raw = m->q + m->kv;
    void *raw = column(e, a->qk_raw, p->at), *y = column(e, a->qkv, p->at);
    bool full = e->model->qk_norm == QK_NORM_FULL;
    e->be->copy_rows(e->s, &OP(copy_rows, .rows = e->T, .width = p->width, .x = y, .ldx = ld, .y = raw,
                               .ldy = ld_raw, .type = e->type));
    struct rmsnorm op =
        OP(rmsnorm, .rows = e->T, .heads = p->heads, .width = e->model->head_dim, .x = raw, .ldx = ld_raw,
           .w = p->norm->w, .y = y, .ldy = ld, .eps = (float)e->model->norm_eps, .type = e->type);
    if (full) {
        e->be->row_sums(e->s, &OP(row_sums, .rows = e->T, .width = p->width, .x = raw, .ldx = ld_raw,
                                  .sumsq = p->sums, .type = e->type));
        TRY(sum_over_tp(e, p->sums, e->T));
        op.heads = 1;
        op.width = p->width;
        op.sumsq = p->sums;
        op.full_width = p->full;
        op.clip = (float)e->model->clip_qkv;
    }
    e->be->rmsnorm(e->s, &op);
    return 0;
}

/* dqkv's columns of this projection, from the gradient of the normed values to that of the raw ones, in place.
 */
static int qk_norm_backward(struct engine *e, struct acts *a, const struct part *p)
{
    struct arena *m = &e->arena;
    int64_t ld = m->q + 2 * m->kv, ld_raw = m->q + m->kv;
    void *raw = column(e, a->qk_raw, p->at), *dy = column(e, e->ws->dqkv, p->at);
    struct rmsnorm_backward op =
        OP(rmsnorm_backward, .rows = e->T, .heads = p->heads, .width = e->model->head_dim, .x = raw,
           .ldx = ld_raw, .w = p->norm->w, .dy = dy, .lddy = ld, .dx = dy, .lddx = ld, .dw = p->norm->g,
           .eps = (float)e->model->norm_eps, .type = e->type);
    if (e->model->qk_norm == QK_NORM_FULL) {
        float clip = (float)e->model->clip_qkv, *dot = e->ws->norm_sums;
        e->be->row_sums(e->s, &OP(row_sums, .rows = e->T, .width = p->width, .x = raw, .ldx = ld_raw, .dy = dy,
                                  .lddy = ld, .w = p->norm->w, .dot = dot, .sumsq_in = p->sums,
                                  .full_width = p->full, .eps = op.eps, .clip = clip, .type = e->type));
        TRY(sum_over_tp(e, dot, e->T));
        op.heads = 1;
        op.width = p->width;
        op.sumsq = p->sums;
        op.dot = dot;
        op.full_width = p->full;
        op.clip = clip;
    }
    gradient_begin(e, op.dw, op.width);
    e->be->rmsnorm_backward(e->s, &op);
    return 0;
}

static struct attention core(struct engine *e, struct acts *a)
{
    struct arena *m = &e->arena;
    int64_t ld = m->q + 2 * m->kv;
    return OP(attention, .sequences = e->plan->batch.micro, .seq = e->plan->batch.seq, .heads = m->heads,
              .kv_heads = m->kv_heads, .dim = e->model->head_dim, .q = a->qkv, .k = column(e, a->qkv, m->q),
              .v = column(e, a->qkv, m->q + m->kv), .ldq = ld, .ldk = ld, .ldv = ld, .o = a->o, .ldo = m->q,
              .lse = a->lse, .scale = 1 / __builtin_sqrtf((float)e->model->head_dim), .type = e->type);
}

int attention_forward(struct engine *e, struct layer *w, struct acts *a, const void *x)
{
    struct arena *m = &e->arena;
    const struct backend *be = e->be;
    int64_t H = e->H, ld = m->q + 2 * m->kv;
    norm(e, x, &w->input_norm, a->h);
    const void *h = tp_gather(e, a->h, e->ws->gather, H);
    if (!h)
        return -1;
    linear(e, e->T, ld, H, h, w->qkv.w, a->qkv);
    if (w->qkv_bias.w)
        be->bias(e->s, &OP(bias, .rows = e->T, .width = ld, .x = a->qkv, .ldx = ld, .bias = w->qkv_bias.w,
                           .type = e->type));
    struct part part[2];
    parts(e, w, a, part);
    float clip = (float)e->model->clip_qkv;
    if (clip > 0)
        be->clamp(e->s, &OP(clamp, .rows = e->T, .width = m->kv, .x = column(e, a->qkv, m->q + m->kv),
                            .ldx = ld, .limit = clip, .type = e->type));
    for (int i = 0; i < 2; i++) {
        if (e->model->qk_norm != QK_NORM_NONE)
            TRY(qk_norm_forward(e, a, &part[i]));
        struct rope rope = rope_of(e, a->qkv, &part[i], false);
        be->rope(e->s, &rope);
    }
    struct attention att = core(e, a);
    be->attention(e->s, &att);
    linear(e, e->T, H, m->q, a->o, w->o.w, tp_partial(e, e->ws->branch));
    TRY(tp_reduce(e, e->ws->branch));
    /* Once, to the sum: every rank has other tokens now. */
    for (int64_t i = 0, times = fault("o-bias-tp-times") ? e->tp : 1; w->o_bias.w && i < times; i++)
        be->bias(e->s, &OP(bias, .rows = e->n, .width = H, .x = e->ws->branch, .ldx = H, .bias = w->o_bias.w,
                           .type = e->type));
    be->add(e->s, &OP(add, .count = e->n * H, .a = x, .b = e->ws->branch, .y = a->x2, .type = e->type));
    return 0;
}

static void attention_weight_products(struct engine *e, struct layer *w, struct acts *a, const void *h,
                                      const void *d, const void *dqkv)
{
    struct arena *m = &e->arena;
    int64_t ld = m->q + 2 * m->kv;
    linear_weight(e, e->T, e->H, m->q, d, a->o, w->o.g);
    linear_weight(e, e->T, ld, e->H, dqkv, h, w->qkv.g);
}

/* From the gradient of q|k|v after norms and RoPE to that of the projection's output. */
static int undo_rope_and_norms(struct engine *e, struct layer *w, struct acts *a)
{
    struct arena *m = &e->arena;
    int64_t ld = m->q + 2 * m->kv;
    struct part part[2];
    parts(e, w, a, part);
    for (int i = 0; i < 2; i++) {
        struct rope rope = rope_of(e, e->ws->dqkv, &part[i], !fault("rope-not-inverted"));
        e->be->rope(e->s, &rope);
        if (e->model->qk_norm != QK_NORM_NONE)
            TRY(qk_norm_backward(e, a, &part[i]));
    }
    if (e->model->clip_qkv > 0)
        e->be->clamp_backward(e->s, &OP(clamp_backward, .rows = e->T, .width = m->kv,
                                        .x = column(e, a->qkv, m->q + m->kv), .ldx = ld,
                                        .dx = column(e, e->ws->dqkv, m->q + m->kv), .lddx = ld,
                                        .limit = (float)e->model->clip_qkv, .type = e->type));
    return 0;
}

/* d_bias += Σ dy over the rows; NULL: there is no bias. */
static void bias_backward(struct engine *e, int64_t rows, int64_t width, const void *dy, float *d_bias)
{
    if (!d_bias)
        return;
    gradient_begin(e, d_bias, width);
    e->be->bias_backward(e->s, &OP(bias_backward, .rows = rows, .width = width, .dy = dy, .lddy = width,
                                   .d_bias = d_bias, .type = e->type));
}

int attention_backward(struct engine *e, struct layer *w, struct acts *a, const void *x, void *d, bool split)
{
    struct arena *m = &e->arena;
    const struct backend *be = e->be;
    int64_t ld = m->q + 2 * m->kv, H = e->H;
    size_t bytes = type_bytes(e->type);
    bias_backward(e, e->n, H, d, w->o_bias.g);
    const void *dg = tp_gather(e, d, e->ws->gather_d, H);
    if (!dg)
        return -1;
    linear_input(e, e->T, H, m->q, dg, w->o.w, e->ws->d_o);
    void *dqkv = e->ws->dqkv;
    be->attention_backward(e->s, &OP(attention_backward, .fwd = core(e, a), .d_o = e->ws->d_o, .lddo = m->q,
                                     .dq = dqkv, .dk = column(e, dqkv, m->q),
                                     .dv = column(e, dqkv, m->q + m->kv), .delta = e->ws->delta));
    TRY(undo_rope_and_norms(e, w, a));
    bias_backward(e, e->T, ld, dqkv, w->qkv_bias.g);
    if (split) {
        be->copy(e->s, a->x2, d, (size_t)(e->n * H) * bytes);
        be->copy(e->s, a->qkv, dqkv, (size_t)(e->T * ld) * bytes);
    } else {
        const void *h = tp_gather(e, a->h, e->ws->gather, H);
        if (!h)
            return -1;
        attention_weight_products(e, w, a, h, dg, dqkv);
    }
    linear_input(e, e->T, ld, H, dqkv, w->qkv.w, tp_partial(e, e->ws->dh));
    TRY(tp_reduce(e, e->ws->dh));
    norm_backward_add(e, x, &w->input_norm, e->ws->dh, d);
    return 0;
}

int attention_weights(struct engine *e, struct layer *w, struct acts *a)
{
    const void *d = tp_gather(e, a->x2, e->ws->gather_d, e->H);
    const void *h = d ? tp_gather(e, a->h, e->ws->gather, e->H) : NULL;
    if (!h)
        return -1;
    attention_weight_products(e, w, a, h, d, a->qkv);
    return 0;
}
