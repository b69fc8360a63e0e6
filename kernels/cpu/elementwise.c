/* SPDX-License-Identifier: MIT */
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

/* For each piece of a row: `c`, `n`. */
#define PIECES(width) for (int64_t c = 0, n; c < (width) && (n = min64(CHUNK, (width)-c)) > 0; c += CHUNK)

HOT static void swiglu_piece(float *y, const float *gate, const float *up, float weight, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = weight * gate[i] * sigmoid_fast(gate[i]) * up[i];
}

/* As derived in ref/elementwise.c. Returns this piece of d_weight. */
HOT static float swiglu_gradient(float *dg, float *du, const float *gate, const float *up, const float *dy,
                                 float weight, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], sig = sigmoid_fast(g), silu = g * sig, d = weight * dy[i];
        sum += dy[i] * silu * u;
        dg[i] = d * u * (sig + silu * (1 - sig));
        du[i] = d * silu;
    }
    return sum;
}

static void cpu_swiglu(struct stream *s, const struct swiglu *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++) {
        float gbuf[CHUNK], ubuf[CHUNK], ybuf[CHUNK], weight = p->weight ? p->weight[r] : 1;
        PIECES(p->width)
        {
            int64_t i = r * 2 * p->width + c, y = r * p->width + c;
            float *to = out(p->y, y, p->type, ybuf);
            swiglu_piece(to, view(p->gate_up, i, n, p->type, gbuf),
                         view(p->gate_up, i + p->width, n, p->type, ubuf), weight, n);
            put(p->y, y, n, p->type, to);
        }
    }
}

static void cpu_swiglu_backward(struct stream *s, const struct swiglu_backward *p)
{
    int64_t rows = counted(p->rows, p->count);
#pragma omp parallel for schedule(static) if (rows * p->width > WORTH)
    for (int64_t r = 0; r < rows; r++) {
        float gbuf[CHUNK], ubuf[CHUNK], ybuf[CHUNK], dgbuf[CHUNK], dubuf[CHUNK];
        float weight = p->weight ? p->weight[r] : 1;
        double sum = 0;
        PIECES(p->width)
        {
            int64_t gate = r * 2 * p->width + c, up = gate + p->width;
            float *dg = out(p->d_gate_up, gate, p->type, dgbuf), *du = out(p->d_gate_up, up, p->type, dubuf);
            sum += swiglu_gradient(dg, du, view(p->gate_up, gate, n, p->type, gbuf),
                                   view(p->gate_up, up, n, p->type, ubuf),
                                   view(p->dy, r * p->width + c, n, p->type, ybuf), weight, n);
            put(p->d_gate_up, gate, n, p->type, dg);
            put(p->d_gate_up, up, n, p->type, du);
        }
        if (p->d_weight)
            p->d_weight[r] = (float)sum;
    }
}

HOT static void add_piece(float *y, const float *a, const float *b, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

HOT static void scale_piece(float *y, const float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * by;
}

HOT static void clamp_piece(float *y, const float *x, float limit, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] > limit ? limit : x[i];
        y[i] = v < -limit ? -limit : v;
    }
}

HOT static void clamp_gradient(float *dx, const float *d, const float *x, float limit, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dx[i] = fabsf(x[i]) >= limit ? 0 : d[i];
}

static void cpu_add(struct stream *s, const struct add *p)
{
    int parts = p->parts > 0 ? p->parts : 1;
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK) {
        float sum[CHUNK], buf[CHUNK];
        int64_t n = min64(CHUNK, p->count - i);
        if (p->a)
            memcpy(sum, view(p->a, i, n, p->type, buf), (size_t)n * sizeof *sum);
        else
            memset(sum, 0, sizeof sum);
        for (int part = 0; part < parts; part++) {
            const float *b = view(p->b, part * p->count + i, n, p->type, buf);
            float *to = part == parts - 1 ? out(p->y, i, p->type, sum) : sum;
            add_piece(to, sum, b, n);
        }
        put(p->y, i, n, p->type, sum);
    }
}

static void cpu_sum_rows(struct stream *s, const struct sum_rows *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        PIECES(p->width)
        {
            float sum[CHUNK] = {0}, buf[CHUNK];
            for (int part = 0; part < p->parts; part++)
                add_piece(sum, sum, view(p->x, part * p->stride + r * p->ldx + c, n, p->type, buf), n);
            if (p->type == F32)
                memcpy((float *)p->y + r * p->ldy + c, sum, (size_t)n * sizeof *sum);
            put(p->y, r * p->ldy + c, n, p->type, sum);
        }
}

static void cpu_bias(struct stream *s, const struct bias *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        PIECES(p->width)
        {
            float xbuf[CHUNK], bbuf[CHUNK];
            int64_t i = r * p->ldx + c;
            float *to = out(p->x, i, p->type, xbuf);
            add_piece(to, view(p->x, i, n, p->type, xbuf), view(p->bias, c, n, p->type, bbuf), n);
            put(p->x, i, n, p->type, to);
        }
}

/* A thread owns columns, so the order of the sum is that of the rows. */
static void cpu_bias_backward(struct stream *s, const struct bias_backward *p)
{
    enum { COLUMNS = 64 };
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t c = 0; c < p->width; c += COLUMNS) {
        float sum[COLUMNS] = {0}, buf[COLUMNS];
        int64_t n = min64(COLUMNS, p->width - c);
        for (int64_t r = 0; r < p->rows; r++)
            add_piece(sum, sum, view(p->dy, r * p->lddy + c, n, p->type, buf), n);
        add_piece(p->d_bias + c, p->d_bias + c, sum, n);
    }
}

static void cpu_clamp(struct stream *s, const struct clamp *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        PIECES(p->width)
        {
            float buf[CHUNK];
            int64_t i = r * p->ldx + c;
            float *to = out(p->x, i, p->type, buf);
            clamp_piece(to, view(p->x, i, n, p->type, buf), p->limit, n);
            put(p->x, i, n, p->type, to);
        }
}

static void cpu_clamp_backward(struct stream *s, const struct clamp_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        PIECES(p->width)
        {
            float xbuf[CHUNK], dbuf[CHUNK];
            int64_t i = r * p->lddx + c;
            float *to = out(p->dx, i, p->type, dbuf);
            clamp_gradient(to, view(p->dx, i, n, p->type, dbuf), view(p->x, r * p->ldx + c, n, p->type, xbuf),
                           p->limit, n);
            put(p->dx, i, n, p->type, to);
        }
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

static void cpu_convert(struct stream *s, const struct convert *p)
{
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK) {
        float xbuf[CHUNK], ybuf[CHUNK];
        int64_t n = min64(CHUNK, p->count - i);
        float *to = out(p->y, i, p->to, ybuf);
        scale_piece(to, view(p->x, i, n, p->from, xbuf), p->scale, n);
        put(p->y, i, n, p->to, to);
    }
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

static void cpu_row_gate(struct stream *s, const struct row_gate *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        float xbuf[CHUNK], ybuf[CHUNK], gate = sigmoid(p->g[r]);
        PIECES(p->width)
        {
            int64_t i = r * p->width + c;
            float *to = out(p->y, i, p->type, ybuf);
            scale_piece(to, view(p->x, i, n, p->type, xbuf), gate, n);
            put(p->y, i, n, p->type, to);
        }
    }
}

static void cpu_row_gate_backward(struct stream *s, const struct row_gate_backward *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        float xbuf[CHUNK], ybuf[CHUNK], dbuf[CHUNK], gate = sigmoid(p->g[r]);
        double sum = 0;
        PIECES(p->width)
        {
            int64_t i = r * p->width + c;
            const float *dy = view(p->dy, i, n, p->type, ybuf);
            float *to = out(p->dx, i, p->type, dbuf);
            sum += dot_of(dy, view(p->x, i, n, p->type, xbuf), n);
            scale_piece(to, dy, gate, n);
            put(p->dx, i, n, p->type, to);
        }
        p->dg[r] = (float)(gate * (1 - gate) * sum);
    }
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
