/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

LOOP float square(const void *x, int64_t i, enum type T)
{
    return load(x, i, T) * load(x, i, T);
}

LOOP double sum_of_squares(const void *x, int64_t width, enum type type)
{
    double sum;
    BY_TYPE(type, sum = SUM_OVER(i, width, square(x, i, T)));
    return sum;
}

LOOP float rstd_of(const float *sumsq, int64_t r, int64_t full_width, const void *x, int64_t width,
                   enum type type, float eps)
{
    double mean = sumsq ? sumsq[r] / (double)full_width : sum_of_squares(x, width, type) / (double)width;
    return (float)(1 / sqrt(mean + eps));
}

LOOP void normalise(void *y, const void *x, const void *w, float rstd, bool cut, float clip, int64_t n,
                    enum type T)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = load(x, i, T) * rstd * load(w, i, T);
        if (cut) {
            v = v > clip ? clip : v;
            v = v < -clip ? -clip : v;
        }
        store(y, i, T, v);
    }
}

/* Rows whose factors are computed side by side: one row's sum, root and quotient each wait for the last. */
enum { ROWS = 8 };

HOT static void forward_rows(const struct rmsnorm *p, int64_t first, int64_t last)
{
    float rstd[ROWS];
    for (int64_t i = first; i < last; i++) {
        int64_t r = i / p->heads, h = i % p->heads * p->width;
        const void *x = at(p->x, r * p->ldx + h, p->type);
        rstd[i - first] = rstd_of(p->sumsq, r, p->full_width, x, p->width, p->type, p->eps);
    }
    for (int64_t i = first; i < last; i++) {
        int64_t r = i / p->heads, h = i % p->heads * p->width;
        const void *x = at(p->x, r * p->ldx + h, p->type);
        void *y = at(p->y, r * p->ldy + h, p->type);
        if (p->clip > 0)
            BY_TYPE(p->type, normalise(y, x, p->w, rstd[i - first], true, p->clip, p->width, T));
        else
            BY_TYPE(p->type, normalise(y, x, p->w, rstd[i - first], false, 0, p->width, T));
    }
}

static void cpu_rmsnorm(struct stream *s, const struct rmsnorm *p)
{
    int64_t units = p->rows * p->heads;
#pragma omp parallel for schedule(static) if (units * p->width > WORTH)
    for (int64_t i = 0; i < units; i += ROWS)
        forward_rows(p, i, min64(i + ROWS, units));
}

/* dy, counting as 0 where the clip cut. */
LOOP float kept(const void *dy, float normed, bool cut, float clip, int64_t i, enum type T)
{
    return cut && fabsf(normed) >= clip ? 0 : load(dy, i, T);
}

/* dy·w·x. */
LOOP float dot_term(const void *x, const void *dy, const void *w, float rstd, bool cut, float clip, int64_t i,
                    enum type T)
{
    float v = load(x, i, T), wi = load(w, i, T);
    return kept(dy, v * rstd * wi, cut, clip, i, T) * wi * v;
}

LOOP double row_dot(const void *x, const void *dy, const void *w, float rstd, float clip, int64_t width,
                    enum type type)
{
    double sum;
    if (clip > 0)
        BY_TYPE(type, sum = SUM_OVER(i, width, dot_term(x, dy, w, rstd, true, clip, i, T)));
    else
        BY_TYPE(type, sum = SUM_OVER(i, width, dot_term(x, dy, w, rstd, false, 0, i, T)));
    return sum;
}

/* dx and dw as derived in ref/norm.c. */
LOOP void gradient(const struct rmsnorm_backward *p, void *dx, float *dw, const void *dy, const void *x,
                   float rstd, float shrink, bool accumulate, bool cut, enum type T)
{
    const void *w = p->w;
    float clip = p->clip;
#pragma omp simd
    for (int64_t i = 0; i < p->width; i++) {
        float v = load(x, i, T), wi = load(w, i, T), g = kept(dy, v * rstd * wi, cut, clip, i, T);
        float d = g * wi * rstd - v * shrink;
        dw[i] += g * v * rstd;
        store(dx, i, T, accumulate ? load(dx, i, T) + d : d);
    }
}

HOT static void backward_rows(const struct rmsnorm_backward *p, int64_t first, int64_t last, float *dw)
{
    float rstd[ROWS], shrink[ROWS];
    for (int64_t i = first; i < last; i++) {
        int64_t r = i / p->heads, h = i % p->heads * p->width;
        const void *x = at(p->x, r * p->ldx + h, p->type), *dy = at(p->dy, r * p->lddy + h, p->type);
        float one = rstd_of(p->sumsq, r, p->full_width, x, p->width, p->type, p->eps);
        double dot = p->sumsq ? p->dot[r] : row_dot(x, dy, p->w, one, p->clip, p->width, p->type);
        rstd[i - first] = one;
        shrink[i - first] = (float)(dot * one * one * one / (double)(p->sumsq ? p->full_width : p->width));
    }
    for (int64_t i = first; i < last; i++) {
        int64_t r = i / p->heads, h = i % p->heads * p->width;
        const void *x = at(p->x, r * p->ldx + h, p->type), *dy = at(p->dy, r * p->lddy + h, p->type);
        void *dx = at(p->dx, r * p->lddx + h, p->type);
        float a = rstd[i - first], b = shrink[i - first];
        if (p->clip > 0)
            BY_TYPE(p->type, gradient(p, dx, dw, dy, x, a, b, p->accumulate, true, T));
        else if (p->accumulate)
            BY_TYPE(p->type, gradient(p, dx, dw, dy, x, a, b, true, false, T));
        else
            BY_TYPE(p->type, gradient(p, dx, dw, dy, x, a, b, false, false, T));
    }
}

/* dw is summed in blocks of rows that do not depend on the threads, then over the blocks in order. */
static void cpu_rmsnorm_backward(struct stream *s, const struct rmsnorm_backward *p)
{
    int64_t units = p->rows * p->heads, blocks = min64(32, ceil_div(units, 16));
    float *part = xcalloc((size_t)(blocks * p->width + 1), sizeof *part);
#pragma omp parallel if (units * p->width > WORTH)
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t i = units * b / blocks, end = units * (b + 1) / blocks; i < end; i += ROWS)
                backward_rows(p, i, min64(i + ROWS, end), part + b * p->width);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < p->width; c++) {
            float sum = 0;
            for (int64_t b = 0; b < blocks; b++)
                sum += part[b * p->width + c];
            p->dw[c] += sum;
        }
    }
    free(part);
}

HOT static void sums_of_row(const struct row_sums *p, int64_t r)
{
    const void *x = at(p->x, r * p->ldx, p->type), *dy = at(p->dy, r * p->lddy, p->type);
    if (p->sumsq)
        p->sumsq[r] = (float)sum_of_squares(x, p->width, p->type);
    if (!p->dot)
        return;
    float rstd = p->clip > 0 ? (float)(1 / sqrt(p->sumsq_in[r] / (double)p->full_width + p->eps)) : 0;
    p->dot[r] = (float)row_dot(x, dy, p->w, rstd, p->clip, p->width, p->type);
}

static void cpu_row_sums(struct stream *s, const struct row_sums *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        sums_of_row(p, r);
}

void norm_install(struct backend *be)
{
    be->rmsnorm = cpu_rmsnorm;
    be->rmsnorm_backward = cpu_rmsnorm_backward;
    be->row_sums = cpu_row_sums;
}
