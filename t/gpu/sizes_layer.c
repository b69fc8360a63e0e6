/* SPDX-License-Identifier: MIT */
/* The programme of sizes: products, norms, attention, activations. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "gpu/sizes.h"

/* ---- products ---- */

/* y = x·wᵀ, [rows,width]·[n·width,width]ᵀ, and dx = y·w. */
static void linear(struct side *s)
{
    int64_t in = s->width, out = s->n * in;
    void *x = rows_of(s, in, s->type, 1), *w = whole_of(s, out * in, s->type, 1 / sqrt((double)in));
    void *y = rows_of(s, out, s->type, 1), *dx = rows_of(s, in, s->type, 1);
    float *f = rows_of(s, out, F32, 1);
    struct matmul p = OP(matmul, .m = s->rows, .n = out, .k = in, .tb = true, .a = x, .lda = in, .b = w,
                         .ldb = in, .c = f, .ldc = out, .beta = 1, .in = s->type, .out = F32);
    s->be->matmul(s->s, &p);
    show(s, "y in f32, added to", f, out, F32, s->type == F32 ? 1e-4 : 1.0 / 64);
    void *dy = rows_of(s, out, s->type, 1 / sqrt((double)s->n));
    p.c = y;
    p.beta = 0;
    p.out = s->type;
    s->be->matmul(s->s, &p);
    show(s, "y", y, out, s->type, s->type == F32 ? 1e-4 : 1.0 / 64);
    s->be->matmul(s->s, &OP(matmul, .m = s->rows, .n = in, .k = out, .a = dy, .lda = out, .b = w, .ldb = in,
                            .c = dx, .ldc = in, .in = s->type, .out = s->type));
    show(s, "dx", dx, in, s->type, s->type == F32 ? 1e-4 : 1.0 / 64);
}

/* dw += dyᵀ·x, over all rows. */
static void linear_weight(struct side *s)
{
    int64_t in = s->width, out = s->n * in;
    double size = 1 / sqrt(sqrt((double)s->all));
    void *x = rows_of(s, in, s->type, size), *dy = rows_of(s, out, s->type, size);
    float *dw = whole_of(s, out * in, F32, 1);
    s->be->matmul(s->s, &OP(matmul, .m = out, .n = in, .k = s->rows, .ta = true, .a = dy, .lda = out, .b = x,
                            .ldb = in, .c = dw, .ldc = in, .beta = 1, .in = s->type, .out = F32));
    show_whole(s, "dw", dw, out * in, F32, 1e-4);
}

/* Experts' rows grow with their number's square: some have none, the last ones most. Of these the window's. */
static int32_t *skewed(struct side *s, int64_t experts)
{
    int32_t *row = xcalloc((size_t)experts + 1, sizeof *row);
    for (int64_t e = 0; e <= experts; e++) {
        int64_t at = s->all * (e * e) / (experts * experts) - s->first;
        row[e] = (int32_t)(at < 0 ? 0 : at > s->rows ? s->rows : at);
    }
    int32_t *p = host_of(s, row, (size_t)(experts + 1) * sizeof *row);
    free(row);
    return p;
}

enum { EXPERTS = 64, MORE_EXPERTS = 80 };

static struct grouped_matmul grouped_of(struct side *s, int64_t experts)
{
    int64_t k = s->width, n = s->n * k;
    return OP(grouped_matmul, .experts = experts, .rows = s->rows, .row = skewed(s, experts), .n = n, .k = k,
              .ldx = k, .ldy = n, .stride = n * k, .type = s->type);
}

static void grouped_over(struct side *s, int64_t experts)
{
    struct grouped_matmul p = grouped_of(s, experts);
    void *x = p.x = rows_of(s, p.k, s->type, 1);
    p.y = rows_of(s, p.n, s->type, 1);
    p.w = whole_of(s, experts * p.stride, s->type, 1 / sqrt((double)p.k));
    s->be->grouped_matmul(s->s, &p);
    show(s, "y", p.y, p.n, s->type, s->tol);
    p.kind = GROUPED_INPUT;
    p.y = rows_of(s, p.n, s->type, 1 / sqrt((double)s->n));
    p.x = rows_of(s, p.k, s->type, 1);
    s->be->grouped_matmul(s->s, &p);
    show(s, "dx", p.x, p.k, s->type, s->tol);
    (void)x;
}

static void grouped(struct side *s)
{
    grouped_over(s, EXPERTS);
}
static void grouped_more(struct side *s)
{
    grouped_over(s, MORE_EXPERTS);
}

static void grouped_weight(struct side *s)
{
    struct grouped_matmul p = grouped_of(s, EXPERTS);
    double size = 1 / sqrt(sqrt((double)s->all / EXPERTS));
    p.kind = GROUPED_WEIGHT;
    p.beta = 1;
    p.x = rows_of(s, p.k, s->type, size);
    p.y = rows_of(s, p.n, s->type, size);
    p.w = whole_of(s, EXPERTS * p.stride, F32, 1);
    s->be->grouped_matmul(s->s, &p);
    show_whole(s, "dw", p.w, EXPERTS * p.stride, F32, 1e-4);
}

/* ---- norms ---- */

static void norm(struct side *s)
{
    int64_t n = s->width;
    void *x = rows_of(s, n, s->type, 1), *w = whole_of(s, n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    void *dy = rows_of(s, n, s->type, 1), *dx = rows_of(s, n, s->type, 1);
    float *dw = whole_of(s, n, F32, 1);
    s->be->rmsnorm(s->s, &OP(rmsnorm, .rows = s->rows, .heads = 1, .width = n, .x = x, .ldx = n, .w = w, .y = y,
                             .ldy = n, .eps = 1e-5f, .type = s->type));
    show(s, "y", y, n, s->type, s->tol);
    s->be->rmsnorm_backward(s->s, &OP(rmsnorm_backward, .rows = s->rows, .heads = 1, .width = n, .x = x,
                                      .ldx = n, .w = w, .dy = dy, .lddy = n, .dx = dx, .lddx = n, .dw = dw,
                                      .accumulate = true, .eps = 1e-5f, .type = s->type));
    show(s, "dx", dx, n, s->type, s->tol);
    show_whole(s, "dw", dw, n, F32, 1e-3);
}

/* A half of a norm over two ranks. */
static void norm_part(struct side *s)
{
    int64_t n = s->width;
    void *x = rows_of(s, n, s->type, 1), *w = whole_of(s, n, s->type, 1), *dy = rows_of(s, n, s->type, 1);
    float *sumsq = rows_of(s, 1, F32, 0), *dot = rows_of(s, 1, F32, 0);
    struct row_sums p = OP(row_sums, .rows = s->rows, .width = n, .x = x, .ldx = n, .sumsq = sumsq, .dy = dy,
                           .lddy = n, .w = w, .full_width = 2 * n, .eps = 1e-5f, .type = s->type);
    s->be->row_sums(s->s, &p);
    p.sumsq = NULL;
    p.sumsq_in = sumsq;
    p.dot = dot;
    s->be->row_sums(s->s, &p);
    show(s, "sum of squares", sumsq, 1, F32, 5e-5);
    void *y = rows_of(s, n, s->type, 1);
    s->be->rmsnorm(s->s, &OP(rmsnorm, .rows = s->rows, .heads = 1, .width = n, .x = x, .ldx = n, .w = w, .y = y,
                             .ldy = n, .eps = 1e-5f, .sumsq = sumsq, .full_width = 2 * n, .type = s->type));
    show(s, "y", y, n, s->type, s->tol);
}

/* Heads of 128, half of each turned. */
static void rope(struct side *s)
{
    int64_t dim = s->width % 128 ? s->width : 128;
    void *x = rows_of(s, s->width, s->type, 1);
    float *angles = whole_of(s, s->unit * dim / 2, F32, 0.5);
    s->be->rope(s->s, &OP(rope, .rows = s->rows, .seq = s->unit, .heads = s->width / dim, .head_dim = dim,
                          .rotary = dim / 2, .x = x, .ld = s->width, .cos_sin = angles, .type = s->type));
    show(s, "x", x, s->width, s->type, s->tol);
}

/* ---- attention: n query heads share a head of keys; a unit is a sequence ---- */

static void attention_of(struct side *s, int64_t dim)
{
    int64_t heads = s->width > dim ? s->width / dim : 1, kv = heads >= s->n ? heads / s->n : 1,
            sequences = s->rows / s->unit;
    void *q = rows_of(s, heads * dim, s->type, 1), *k = rows_of(s, kv * dim, s->type, 1),
         *v = rows_of(s, kv * dim, s->type, 1), *o = rows_of(s, heads * dim, s->type, 1),
         *d_o = rows_of(s, heads * dim, s->type, 1), *dq = rows_of(s, heads * dim, s->type, 1),
         *dk = rows_of(s, kv * dim, s->type, 1), *dv = rows_of(s, kv * dim, s->type, 1);
    float *lse = rows_of(s, heads, F32, 0), *delta = rows_of(s, heads, F32, 0);
    struct attention p =
        OP(attention, .sequences = sequences, .seq = s->unit, .heads = heads, .kv_heads = kv, .dim = dim,
           .q = q, .k = k, .v = v, .ldq = heads * dim, .ldk = kv * dim, .ldv = kv * dim, .o = o,
           .ldo = heads * dim, .lse = lse, .scale = (float)(1 / sqrt((double)dim)), .type = s->type);
    s->be->attention(s->s, &p);
    show(s, "o", o, heads * dim, s->type, s->tol);
    show_planes(s, "lse", lse, heads, 1, F32, s->type == F32 ? 5e-5 : 1e-3);
    s->be->attention_backward(s->s, &OP(attention_backward, .fwd = p, .d_o = d_o, .lddo = heads * dim, .dq = dq,
                                        .dk = dk, .dv = dv, .delta = delta));
    double tol = s->type == F32 ? 2e-4 : 1.0 / 40;
    show(s, "dq", dq, heads * dim, s->type, tol);
    show(s, "dk", dk, kv * dim, s->type, tol);
    show(s, "dv", dv, kv * dim, s->type, tol);
}

static void attention_64(struct side *s)
{
    attention_of(s, 64);
}
static void attention_128(struct side *s)
{
    attention_of(s, 128);
}
static void attention_192(struct side *s)
{
    attention_of(s, 192);
}
static void attention_256(struct side *s)
{
    attention_of(s, 256);
}

/* ---- activations ---- */

/* `width` is that of gate and up together. All rows but the last eighth of the problem are there. */
static void swiglu(struct side *s)
{
    int64_t width = s->width / 2, there = s->all - s->all / 8 - s->first;
    int32_t n = (int32_t)(there < 0 ? 0 : there > s->rows ? s->rows : there);
    int32_t *count = host_of(s, &n, sizeof n);
    void *gate_up = rows_of(s, 2 * width, s->type, 2), *y = rows_of(s, width, s->type, 1),
         *dy = rows_of(s, width, s->type, 1);
    float *weight = rows_of(s, 1, F32, 1), *dw = rows_of(s, 1, F32, 1);
    s->be->swiglu(s->s, &OP(swiglu, .rows = s->rows, .width = width, .count = count, .gate_up = gate_up,
                            .weight = weight, .y = y, .type = s->type));
    show(s, "y", y, width, s->type, s->tol);
    s->be->swiglu_backward(s->s, &OP(swiglu_backward, .rows = s->rows, .width = width, .count = count,
                                     .gate_up = gate_up, .weight = weight, .dy = dy, .d_gate_up = gate_up,
                                     .d_weight = dw, .type = s->type));
    show(s, "d_gate_up", gate_up, 2 * width, s->type, s->tol);
    show(s, "d_weight", dw, 1, F32, 5e-4);
}

static void sums(struct side *s)
{
    int64_t n = s->width, count = s->rows * n;
    void *a = rows_of(s, n, s->type, 1), *b = rows_of(s, n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    s->be->add(s->s, &OP(add, .count = count, .a = a, .b = b, .y = y, .type = s->type));
    show(s, "add", y, n, s->type, s->tol);
    void *bias = whole_of(s, n, s->type, 1), *z = rows_of(s, n, s->type, 1);
    float *db = whole_of(s, n, F32, 1);
    s->be->bias(s->s, &OP(bias, .rows = s->rows, .width = n, .x = a, .ldx = n, .bias = bias, .type = s->type));
    show(s, "bias", a, n, s->type, s->tol);
    s->be->bias_backward(s->s, &OP(bias_backward, .rows = s->rows, .width = n, .dy = b, .lddy = n, .d_bias = db,
                                   .type = s->type));
    show_whole(s, "bias_backward", db, n, F32, 5e-5);
    s->be->sum_rows(s->s, &OP(sum_rows, .rows = s->rows, .width = n, .parts = 1, .x = b, .ldx = n, .y = z,
                              .ldy = n, .type = s->type));
    show(s, "sum_rows", z, n, s->type, s->tol);
}

static void clamps(struct side *s)
{
    int64_t n = s->width;
    void *x = rows_of(s, n, s->type, 1), *dx = rows_of(s, n, s->type, 1), *y = rows_of(s, n / 2, s->type, 1);
    s->be->clamp(s->s,
                 &OP(clamp, .rows = s->rows, .width = n, .x = x, .ldx = n, .limit = 0.5f, .type = s->type));
    show(s, "clamp", x, n, s->type, s->tol);
    s->be->clamp_backward(s->s, &OP(clamp_backward, .rows = s->rows, .width = n, .x = x, .ldx = n, .dx = dx,
                                    .lddx = n, .limit = 0.5f, .type = s->type));
    show(s, "clamp_backward", dx, n, s->type, s->tol);
    s->be->copy_rows(s->s, &OP(copy_rows, .rows = s->rows, .width = n / 2, .x = dx, .ldx = n, .y = y,
                               .ldy = n / 2, .type = s->type));
    show(s, "copy_rows", y, n / 2, s->type, 0);
}

static void gates(struct side *s)
{
    int64_t n = s->width;
    void *x = rows_of(s, n, s->type, 1), *dy = rows_of(s, n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    float *g = rows_of(s, 1, F32, 2), *dg = rows_of(s, 1, F32, 0);
    s->be->row_gate(s->s, &OP(row_gate, .rows = s->rows, .width = n, .x = x, .g = g, .y = y, .type = s->type));
    show(s, "row_gate", y, n, s->type, s->tol);
    s->be->row_gate_backward(s->s, &OP(row_gate_backward, .rows = s->rows, .width = n, .x = x, .dy = dy, .g = g,
                                       .dx = dy, .dg = dg, .type = s->type));
    show(s, "row_gate_backward", dy, n, s->type, s->tol);
    show(s, "row_gate_backward's gate", dg, 1, F32, 1e-3);
    enum type other = s->type == F32 ? BF16 : F32;
    void *c = rows_of(s, n, other, 1);
    s->be->convert(
        s->s, &OP(convert, .count = s->rows * n, .x = x, .y = c, .from = s->type, .to = other, .scale = 0.3f));
    show(s, "convert", c, n, other, 0);
}

/* Rows of 7168 elements from 299594 on, of 4096 from 524289 on, of 1024 from 2097153 on pass 2^31. */
const struct problem sizes_layer[] = {
    {"linear", linear, 32768, 1024, 3, 1, false},
    {"linear, wide", linear, 8192, 7168, 1, 1, true},
    {"linear, beyond 2^31", linear, 2100000, 1024, 1, 1, true},
    {"linear's weight", linear_weight, 32768, 1024, 3, 0, false},
    {"grouped products", grouped, 32768, 1024, 4, 1, false},
    {"grouped products, weights beyond 2^31", grouped_more, 8192, 7168, 1, 1, true},
    {"grouped products, rows beyond 2^31", grouped, 2100000, 1024, 1, 1, true},
    {"grouped products' weight", grouped_weight, 32768, 1024, 2, 0, false},
    {"norm", norm, 32768, 1024, 0, 0, false},
    {"norm, wide", norm, 16384, 7168, 0, 0, false},
    {"norm, beyond 2^31", norm, 300000, 7168, 0, 1, true},
    {"norm over ranks", norm_part, 32768, 2048, 0, 1, false},
    {"norm over ranks, beyond 2^31", norm_part, 600000, 3584, 0, 1, true},
    {"rope", rope, 32768, 2048, 0, 4096, false},
    {"rope, beyond 2^31", rope, 532480, 4096, 0, 4096, true},
    {"attention, 64", attention_64, 8 * 4096, 1024, 1, 4096, false},
    {"attention, 128 in groups of 4", attention_128, 4 * 4096, 4096, 4, 4096, false},
    {"attention, 192", attention_192, 2048, 3072, 1, 1024, false},
    {"attention, 256 in groups of 8", attention_256, 4096, 4096, 8, 2048, false},
    {"attention, beyond 2^31", attention_128, 130 * 4096, 4096, 8, 4096, true},
    {"swiglu", swiglu, 65536, 4096, 0, 1, false},
    {"swiglu, beyond 2^31", swiglu, 530000, 4096, 0, 1, true},
    {"sums", sums, 32768, 2048, 0, 0, false},
    {"sums, beyond 2^31", sums, 300000, 7168, 0, 1, true},
    {"clamps", clamps, 32768, 2048, 0, 1, false},
    {"clamps, beyond 2^31", clamps, 300000, 7168, 0, 1, true},
    {"gates", gates, 32768, 2048, 0, 1, false},
    {"gates, beyond 2^31", gates, 300000, 7168, 0, 1, true},
    {NULL, NULL, 0, 0, 0, 0, false}};
