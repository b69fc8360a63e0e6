/* SPDX-License-Identifier: MIT */
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

LOOP void swiglu_loop(void *y, const void *gate, const void *up, float weight, int64_t n, enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = load(gate, i, T);
        store(y, i, T, weight * g * sigmoid_fast(g) * load(up, i, T));
    }
}

HOT static void swiglu_row(const struct swiglu *p, int64_t r)
{
    const void *gate = at(p->gate_up, r * 2 * p->width, p->type), *up = at(gate, p->width, p->type);
    BY_TYPE(p->type,
            swiglu_loop(at(p->y, r * p->width, T), gate, up, p->weight ? p->weight[r] : 1, p->width, T));
}

static void cpu_swiglu(struct stream *s, const struct swiglu *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++)
        swiglu_row(p, r);
}

/* Element i of the gradients, as derived in ref/elementwise.c; returns its part of d_weight. */
LOOP float swiglu_gradient(void *dg, void *du, const void *gate, const void *up, const void *dy, float weight,
                           int64_t i, enum type T)
{
    float g = load(gate, i, T), u = load(up, i, T), y = load(dy, i, T);
    float sig = sigmoid_fast(g), silu = g * sig, d = weight * y;
    store(dg, i, T, d * u * (sig + silu * (1 - sig)));
    store(du, i, T, d * silu);
    return y * silu * u;
}

HOT static void swiglu_backward_row(const struct swiglu_backward *p, int64_t r)
{
    const void *gate = at(p->gate_up, r * 2 * p->width, p->type), *up = at(gate, p->width, p->type);
    const void *dy = at(p->dy, r * p->width, p->type);
    void *dg = at(p->d_gate_up, r * 2 * p->width, p->type), *du = at(dg, p->width, p->type);
    float weight = p->weight ? p->weight[r] : 1;
    double d_weight;
    BY_TYPE(p->type, d_weight = SUM_OVER(i, p->width, swiglu_gradient(dg, du, gate, up, dy, weight, i, T)));
    if (p->d_weight)
        p->d_weight[r] = (float)d_weight;
}

static void cpu_swiglu_backward(struct stream *s, const struct swiglu_backward *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++)
        swiglu_backward_row(p, r);
}

LOOP void add_loop(void *y, const void *a, const void *b, int64_t n, enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        store(y, i, T, load(a, i, T) + load(b, i, T));
}

/* What is summed: a in its turn, which may be missing, and parts that are `stride` apart. */
struct terms {
    const void *a, *b;
    int parts, before;
    int64_t stride;
};

/* LANES elements from c on, or the n < LANES last ones, of each term in turn: their sums stay in registers. */
LOOP void sum_piece(void *y, struct terms t, int64_t c, int64_t n, enum type T)
{
    float sum[LANES] = {0};
    for (int part = 0; part < t.before; part++)
        add_to(sum, at(t.b, part * t.stride + c, T), n, T);
    if (t.a)
        add_to(sum, at(t.a, c, T), n, T);
    for (int part = t.before; part < t.parts; part++)
        add_to(sum, at(t.b, part * t.stride + c, T), n, T);
    scale_to(at(y, c, T), sum, 1, n, T, F32);
}

LOOP void sum_loop(void *y, struct terms t, int64_t width, enum type T)
{
    int64_t c = 0;
    for (; c + LANES <= width; c += LANES)
        sum_piece(y, t, c, LANES, T);
    sum_piece(y, t, c, width - c, T);
}

/* y = the sum of the terms in this order, rounded once. */
HOT static void sum_row(void *y, struct terms t, int64_t width, enum type type)
{
    if (t.parts == 1 && t.a)
        BY_TYPE(type, add_loop(y, t.a, t.b, width, T));
    else
        BY_TYPE(type, sum_loop(y, t, width, T));
}

static void cpu_add(struct stream *s, const struct add *p)
{
    int parts = p->parts > 0 ? p->parts : 1;
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK) {
        struct terms t = {p->a ? at(p->a, i, p->type) : NULL, at(p->b, i, p->type), parts, p->before, p->count};
        sum_row(at(p->y, i, p->type), t, min64(CHUNK, p->count - i), p->type);
    }
}

static void cpu_sum_rows(struct stream *s, const struct sum_rows *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        struct terms t = {NULL, at(p->x, r * p->ldx, p->type), p->parts, 0, p->stride};
        sum_row(at(p->y, r * p->ldy, p->type), t, p->width, p->type);
    }
}

static void cpu_bias(struct stream *s, const struct bias *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        void *x = at(p->x, r * p->ldx, p->type);
        sum_row(x, (struct terms){x, p->bias, 1, 0, 0}, p->width, p->type);
    }
}

/* A thread owns columns, so the order of the sum is that of the rows. */
enum { COLUMNS = 64 };
HOT static void bias_backward_columns(const struct bias_backward *p, int64_t c)
{
    float sum[COLUMNS] = {0};
    int64_t n = min64(COLUMNS, p->width - c);
    for (int64_t r = 0; r < p->rows; r++)
        BY_TYPE(p->type, add_to(sum, at(p->dy, r * p->lddy + c, T), n, T));
    add_to(p->d_bias + c, sum, n, F32);
}

static void cpu_bias_backward(struct stream *s, const struct bias_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t c = 0; c < p->width; c += COLUMNS)
        bias_backward_columns(p, c);
}

LOOP void clamp_loop(void *x, float limit, int64_t n, enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = load(x, i, T);
        v = v > limit ? limit : v;
        store(x, i, T, v < -limit ? -limit : v);
    }
}

HOT static void clamp_row(const struct clamp *p, int64_t r)
{
    BY_TYPE(p->type, clamp_loop(at(p->x, r * p->ldx, T), p->limit, p->width, T));
}

static void cpu_clamp(struct stream *s, const struct clamp *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        clamp_row(p, r);
}

LOOP void clamp_gradient(void *dx, const void *x, float limit, int64_t n, enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        store(dx, i, T, fabsf(load(x, i, T)) >= limit ? 0 : load(dx, i, T));
}

HOT static void clamp_backward_row(const struct clamp_backward *p, int64_t r)
{
    BY_TYPE(p->type, clamp_gradient(at(p->dx, r * p->lddx, T), at(p->x, r * p->ldx, T), p->limit, p->width, T));
}

static void cpu_clamp_backward(struct stream *s, const struct clamp_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        clamp_backward_row(p, r);
}

static void cpu_copy_rows(struct stream *s, const struct copy_rows *p)
{
    if (p->width == 0)
        return;
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        memcpy(at(p->y, r * p->ldy, p->type), at(p->x, r * p->ldx, p->type),
               (size_t)p->width * type_bytes(p->type));
}

HOT static void scale_piece(void *y, enum type to, const void *x, enum type from, float by, int64_t n)
{
    if (to == F32)
        BY_TYPE(from, scale_to(y, x, by, n, F32, T));
    else
        BY_TYPE(from, scale_to(y, x, by, n, BF16, T));
}

static void cpu_convert(struct stream *s, const struct convert *p)
{
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK)
        scale_piece(at(p->y, i, p->to), p->to, at(p->x, i, p->from), p->from, p->scale,
                    min64(CHUNK, p->count - i));
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static void cpu_row_gate(struct stream *s, const struct row_gate *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        scale_piece(at(p->y, r * p->width, p->type), p->type, at(p->x, r * p->width, p->type), p->type,
                    sigmoid(p->g[r]), p->width);
}

/* dx = gate·dy; returns dy·x. */
LOOP float gate_gradient(void *dx, const void *dy, const void *x, float gate, int64_t i, enum type T)
{
    float d = load(dy, i, T), product = d * load(x, i, T);
    store(dx, i, T, gate * d);
    return product;
}

HOT static void row_gate_backward_row(const struct row_gate_backward *p, int64_t r)
{
    const void *x = at(p->x, r * p->width, p->type), *dy = at(p->dy, r * p->width, p->type);
    void *dx = at(p->dx, r * p->width, p->type);
    float gate = sigmoid(p->g[r]);
    double sum;
    BY_TYPE(p->type, sum = SUM_OVER(i, p->width, gate_gradient(dx, dy, x, gate, i, T)));
    p->dg[r] = (float)(gate * (1 - gate) * sum);
}

static void cpu_row_gate_backward(struct stream *s, const struct row_gate_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        row_gate_backward_row(p, r);
}

void elementwise_install(struct backend *be)
{
    be->swiglu = cpu_swiglu;
    be->swiglu_backward = cpu_swiglu_backward;
    be->add = cpu_add;
    be->sum_rows = cpu_sum_rows;
    be->bias = cpu_bias;
    be->bias_backward = cpu_bias_backward;
    be->clamp = cpu_clamp;
    be->clamp_backward = cpu_clamp_backward;
    be->copy_rows = cpu_copy_rows;
    be->convert = cpu_convert;
    be->row_gate = cpu_row_gate;
    be->row_gate_backward = cpu_row_gate_backward;
}
