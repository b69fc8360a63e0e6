/* SPDX-License-Identifier: MIT */
#include "base/num.h"
#include "cpu.h"
#include "lanes.h"
#include "powers.h"

/* x between -128·ln 2, from where on e^-x is infinite, and 88, NaN too: of the integers that the numbers are,
 * those above 0 are the larger the more they are, and those below, without a sign, the larger the less. */
LOOP void limit(float *x)
{
    EACH_LANE
    {
        int32_t bits = (int32_t)bits_of(x[l]), most = 0x42b00000;
        uint32_t limited = (uint32_t)(bits < most ? bits : most), least = 0xc2b17218;
        x[l] = of_bits(limited < least ? limited : least);
    }
}

/* above[i] = 1 + e^-gate[i], in the order of lanes, in whole pieces, near enough to numbers of a type. In a
 * pass of its own: what waits for an exponential would else fill the processor's queues, and no other would be
 * begun. */
LOOP void divisors_of(float *above, const void *gate, int64_t count, enum type near, enum type T)
{
    PIECES(c, n, count, {
        float g[LANES], power[LANES], scale[LANES];
        get(g, at(gate, c, T), n, T);
        limit(g);
        ask_ahead(at(gate, c, T), T);
        if (T == F32 || T == BF16)
            power_parts(power, scale, g, -1.44269504f, near);
        else
            picked_parts(power, scale, g, -1.44269504f, near);
        EACH_LANE above[c + l] = power[l] * scale[l] + 1;
    });
}

LOOP void swiglu_columns(const struct swiglu *p, int64_t r, int64_t from, int64_t count, enum type T)
{
    const void *gate = at(p->gate_up, r * 2 * p->width + from, T), *up = at(gate, p->width, T);
    void *y = at(p->y, r * p->width + from, T);
    float weight = p->weight ? p->weight[r] : 1, above[CHUNK] __attribute__((aligned(64)));
    divisors_of(above, gate, count, T, T);
    PIECES(c, n, count, {
        float g[LANES], u[LANES], sig[LANES];
        copy_lanes(sig, above + c);
        invert(sig, T);
        get(g, at(gate, c, T), n, T);
        get(u, at(up, c, T), n, T);
        ask_ahead(at(up, c, T), T);
        ask_ahead(at(y, c, T), T);
        EACH_LANE u[l] *= weight * g[l] * sig[l];
        put(at(y, c, T), u, n, T);
    });
}

LOOP void swiglu_row_loop(const struct swiglu *p, int64_t r, enum type T)
{
    for (int64_t c = 0; c < p->width; c += CHUNK)
        swiglu_columns(p, r, c, min64(CHUNK, p->width - c), T);
}
IN_LANES(swiglu_row, (const struct swiglu *p, int64_t r), (p, r))

static void cpu_swiglu(struct stream *s, const struct swiglu *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++)
        swiglu_row(p, r);
}

/* Columns from c on of the gradients, as derived in ref/elementwise.c; returns their part of d_weight, which is
 * f32. */
LOOP float swiglu_gradient(const struct swiglu_backward *p, int64_t r, int64_t c, int64_t count, enum type T)
{
    const void *gate = at(p->gate_up, r * 2 * p->width + c, T), *up = at(gate, p->width, T);
    const void *dy = at(p->dy, r * p->width + c, T);
    void *dg = at(p->d_gate_up, r * 2 * p->width + c, T), *du = at(dg, p->width, T);
    float weight = p->weight ? p->weight[r] : 1, above[CHUNK] __attribute__((aligned(64)));
    struct lane_sum d_weight = {0};
    divisors_of(above, gate, count, F32, T);
    PIECES(i, n, count, {
        float g[LANES], u[LANES], y[LANES], sig[LANES], silu[LANES];
        copy_lanes(sig, above + i);
        invert(sig, F32);
        get(g, at(gate, i, T), n, T);
        EACH_LANE silu[l] = g[l] * sig[l];
        get(u, at(up, i, T), n, T);
        get(y, at(dy, i, T), n, T);
        ask_ahead(at(up, i, T), T);
        ask_ahead(at(dy, i, T), T);
        ask_ahead(at(dg, i, T), T);
        ask_ahead(at(du, i, T), T);
        EACH_LANE g[l] = weight * y[l] * u[l] * (sig[l] + silu[l] * (1 - sig[l]));
        EACH_LANE y[l] *= silu[l];
        add_products(&d_weight, y, u);
        EACH_LANE y[l] *= weight;
        put(at(dg, i, T), g, n, T);
        put(at(du, i, T), y, n, T);
    });
    return total_of(&d_weight);
}

LOOP void swiglu_backward_row_loop(const struct swiglu_backward *p, int64_t r, enum type T)
{
    double d_weight = 0;
    for (int64_t c = 0; c < p->width; c += CHUNK)
        d_weight += swiglu_gradient(p, r, c, min64(CHUNK, p->width - c), T);
    if (p->d_weight)
        p->d_weight[r] = (float)d_weight;
}
IN_LANES(swiglu_backward_row, (const struct swiglu_backward *p, int64_t r), (p, r))

static void cpu_swiglu_backward(struct stream *s, const struct swiglu_backward *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++)
        swiglu_backward_row(p, r);
}

/* y = b[0] + ... with a after `before` of them, in this order, rounded once; parts of b are `stride` apart, a
 * may be missing. */
struct sum_row {
    void *y;
    const void *a, *b;
    int64_t parts, before, stride, width;
    enum type type;
};

/* Parts [from,to) of n elements from c on. */
LOOP void add_run(struct lane_sum *sum, const struct sum_row *p, int64_t from, int64_t to, int64_t c, int64_t n,
                  enum type T)
{
    float v[LANES];
    for (int64_t part = from; part < to; part++) {
        get(v, at(p->b, part * p->stride + c, T), n, T);
        add_piece(sum, v);
    }
}

LOOP void add_parts(const struct sum_row *p, bool with_a, int64_t before, int64_t parts, enum type T)
{
    PIECES(c, n, p->width, {
        const floats none = -(floats){0}; /* -0: added to it all is as it was, a -0 too */
        struct lane_sum sum = {none, none};
        float v[LANES];
        add_run(&sum, p, 0, before, c, n, T);
        if (with_a) {
            get(v, at(p->a, c, T), n, T);
            add_piece(&sum, v);
        }
        add_run(&sum, p, before, parts, c, n, T);
        sums_to(v, &sum);
        put(at(p->y, c, T), v, n, T);
    });
}

LOOP void sum_row_loop(const struct sum_row *p, enum type T)
{
    if (p->a && p->parts == 1)
        add_parts(p, true, 0, 1, T); /* of two the order does not matter */
    else if (p->a)
        add_parts(p, true, p->before, p->parts, T);
    else
        add_parts(p, false, 0, p->parts, T);
}
IN_LANES(sum_row, (const struct sum_row *p), (p))

static void cpu_add(struct stream *s, const struct add *p)
{
    int parts = p->parts > 0 ? p->parts : 1;
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK)
        sum_row(&(struct sum_row){at(p->y, i, p->type), p->a ? at(p->a, i, p->type) : NULL,
                                  at(p->b, i, p->type), parts, p->before, p->count, min64(CHUNK, p->count - i),
                                  p->type});
}

static void cpu_sum_rows(struct stream *s, const struct sum_rows *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        sum_row(&(struct sum_row){at(p->y, r * p->ldy, p->type), NULL, at(p->x, r * p->ldx, p->type), p->parts,
                                  0, p->stride, p->width, p->type});
}

static void cpu_bias(struct stream *s, const struct bias *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        void *x = at(p->x, r * p->ldx, p->type);
        sum_row(&(struct sum_row){x, x, p->bias, 1, 0, 0, p->width, p->type});
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

LOOP void clamp_row_loop(const struct clamp *p, int64_t r, enum type T)
{
    float limit = p->limit;
    PIECES(c, n, p->width, {
        void *x = at(p->x, r * p->ldx + c, T);
        float v[LANES];
        get(v, x, n, T);
        EACH_LANE v[l] = v[l] > limit ? limit : v[l];
        EACH_LANE v[l] = v[l] < -limit ? -limit : v[l];
        put(x, v, n, T);
    });
}
IN_LANES(clamp_row, (const struct clamp *p, int64_t r), (p, r))

static void cpu_clamp(struct stream *s, const struct clamp *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        clamp_row(p, r);
}

LOOP void clamp_backward_row_loop(const struct clamp_backward *p, int64_t r, enum type T)
{
    PIECES(c, n, p->width, {
        void *dx = at(p->dx, r * p->lddx + c, T);
        float v[LANES], d[LANES];
        get(v, at(p->x, r * p->ldx + c, T), n, T);
        get(d, dx, n, T);
        EACH_LANE d[l] = fabsf(v[l]) >= p->limit ? 0 : d[l];
        put(dx, d, n, T);
    });
}
IN_LANES(clamp_backward_row, (const struct clamp_backward *p, int64_t r), (p, r))

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

LOOP void row_gate_row_loop(const struct row_gate *p, int64_t r, enum type T)
{
    float gate = sigmoid(p->g[r]);
    PIECES(c, n, p->width, {
        float v[LANES];
        get(v, at(p->x, r * p->width + c, T), n, T);
        EACH_LANE v[l] *= gate;
        put(at(p->y, r * p->width + c, T), v, n, T);
    });
}
IN_LANES(row_gate_row, (const struct row_gate *p, int64_t r), (p, r))

static void cpu_row_gate(struct stream *s, const struct row_gate *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        row_gate_row(p, r);
}

/* Columns from c on of dx = gate·dy; returns their Σ dy·x. */
LOOP float gate_gradient(const struct row_gate_backward *p, int64_t r, float gate, int64_t c, int64_t count,
                         enum type T)
{
    struct lane_sum sum = {0};
    PIECES(i, n, count, {
        int64_t first = r * p->width + c + i;
        float v[LANES], d[LANES];
        get(v, at(p->x, first, T), n, T);
        get(d, at(p->dy, first, T), n, T);
        add_products(&sum, d, v);
        EACH_LANE d[l] *= gate;
        put(at(p->dx, first, T), d, n, T);
    });
    return total_of(&sum);
}

LOOP void row_gate_backward_row_loop(const struct row_gate_backward *p, int64_t r, enum type T)
{
    float gate = sigmoid(p->g[r]);
    double sum = 0;
    for (int64_t c = 0; c < p->width; c += CHUNK)
        sum += gate_gradient(p, r, gate, c, min64(CHUNK, p->width - c), T);
    p->dg[r] = (float)(gate * (1 - gate) * sum);
}
IN_LANES(row_gate_backward_row, (const struct row_gate_backward *p, int64_t r), (p, r))

static void cpu_row_gate_backward(struct stream *s, const struct row_gate_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        row_gate_backward_row(p, r);
}

/* The angles of a piece serve all heads. Rows are parts of longer ones, so that the processor does not see how
 * they go on. */
LOOP void rope_row_loop(const struct rope *p, int64_t t, enum type T)
{
    enum { ROWS_AHEAD = 2 };
    const float *angle = p->cos_sin + t % p->seq * p->rotary;
    int64_t half = p->rotary / 2;
    float sign = p->inverse ? -1 : 1;
    PIECES(c, n, half, {
        float cosine[LANES], sine[LANES], a[LANES], b[LANES], v[LANES];
        get_beside(cosine, angle + c, n, T);
        get_beside(sine, angle + half + c, n, T);
        EACH_LANE sine[l] *= sign;
        for (int64_t h = 0; h < p->heads; h++) {
            void *lo = at(p->x, t * p->ld + h * p->head_dim + c, T), *hi = at(lo, half, T);
            get(a, lo, n, T);
            get(b, hi, n, T);
            ask_for(at(lo, ROWS_AHEAD * p->ld, T), LANES * (int64_t)type_bytes(T));
            ask_for(at(hi, ROWS_AHEAD * p->ld, T), LANES * (int64_t)type_bytes(T));
            EACH_LANE v[l] = a[l] * cosine[l] - b[l] * sine[l];
            EACH_LANE b[l] = b[l] * cosine[l] + a[l] * sine[l];
            put(lo, v, n, T);
            put(hi, b, n, T);
        }
    });
}
IN_LANES(rope_row, (const struct rope *p, int64_t t), (p, t))

static void cpu_rope(struct stream *s, const struct rope *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->heads * p->rotary > WORTH)
    for (int64_t t = 0; t < p->rows; t++)
        rope_row(p, t);
}

void elementwise_install(struct backend *be)
{
    be->swiglu = cpu_swiglu;
    be->swiglu_backward = cpu_swiglu_backward;
    be->rope = cpu_rope;
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
