/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

HOT static void normalise(float *y, const float *x, const float *w, float rstd, float clip, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * rstd * w[i];
        v = v > clip ? clip : v;
        y[i] = v < -clip ? -clip : v;
    }
}

/* Σ dy·w·x, dy counting as 0 where the clip cut. */
HOT static float clipped_dot(const float *dy, const float *x, const float *w, float rstd, float clip, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += fabsf(x[i] * rstd * w[i]) >= clip ? 0 : dy[i] * w[i] * x[i];
    return sum;
}

/* dx and dw as derived in ref/norm.c. */
HOT static void gradient(float *dx, float *dw, const float *before, const float *dy, const float *x,
                         const float *w, float rstd, float shrink, float clip, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = fabsf(x[i] * rstd * w[i]) >= clip ? 0 : dy[i];
        float d = (before ? before[i] : 0) + g * w[i] * rstd - x[i] * shrink;
        dw[i] += g * x[i] * rstd;
        dx[i] = d;
    }
}

static double sum_of_squares(const void *x, int64_t at, int64_t width, enum type type)
{
    float buf[CHUNK];
    double sum = 0;
    for (int64_t c = 0; c < width; c += CHUNK) {
        int64_t n = min64(CHUNK, width - c);
        const float *piece = view(x, at + c, n, type, buf);
        sum += dot_of(piece, piece, n);
    }
    return sum;
}

static float rstd_of(const float *sumsq, int64_t r, int64_t full_width, const void *x, int64_t at,
                     int64_t width, enum type type, float eps)
{
    double mean = sumsq ? sumsq[r] / (double)full_width : sum_of_squares(x, at, width, type) / (double)width;
    return (float)(1 / sqrt(mean + eps));
}

static float limit(float clip)
{
    return clip > 0 ? clip : INFINITY;
}

static void forward_row(const struct rmsnorm *p, int64_t r, int64_t h)
{
    float xbuf[CHUNK], wbuf[CHUNK], ybuf[CHUNK];
    int64_t x = r * p->ldx + h * p->width, y = r * p->ldy + h * p->width;
    float rstd = rstd_of(p->sumsq, r, p->full_width, p->x, x, p->width, p->type, p->eps);
    for (int64_t c = 0; c < p->width; c += CHUNK) {
        int64_t n = min64(CHUNK, p->width - c);
        float *to = out(p->y, y + c, p->type, ybuf);
        normalise(to, view(p->x, x + c, n, p->type, xbuf), view(p->w, c, n, p->type, wbuf), rstd,
                  limit(p->clip), n);
        put(p->y, y + c, n, p->type, to);
    }
}

static void cpu_rmsnorm(struct stream *s, const struct rmsnorm *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->heads * p->width > WORTH)
    for (int64_t i = 0; i < p->rows * p->heads; i++)
        forward_row(p, i / p->heads, i % p->heads);
}

static double row_dot(const void *x, int64_t xi, const void *dy, int64_t yi, const void *w, float rstd,
                      float clip, int64_t width, enum type type)
{
    float xbuf[CHUNK], ybuf[CHUNK], wbuf[CHUNK];
    double sum = 0;
    for (int64_t c = 0; c < width; c += CHUNK) {
        int64_t n = min64(CHUNK, width - c);
        sum += clipped_dot(view(dy, yi + c, n, type, ybuf), view(x, xi + c, n, type, xbuf),
                           view(w, c, n, type, wbuf), rstd, limit(clip), n);
    }
    return sum;
}

static void backward_row(const struct rmsnorm_backward *p, int64_t r, int64_t h, float *dw)
{
    float xbuf[CHUNK], ybuf[CHUNK], wbuf[CHUNK], dbuf[CHUNK], before[CHUNK];
    int64_t x = r * p->ldx + h * p->width, y = r * p->lddy + h * p->width, d = r * p->lddx + h * p->width;
    float rstd = rstd_of(p->sumsq, r, p->full_width, p->x, x, p->width, p->type, p->eps);
    double dot = p->sumsq ? p->dot[r] : row_dot(p->x, x, p->dy, y, p->w, rstd, p->clip, p->width, p->type);
    float shrink = (float)(dot * rstd * rstd * rstd / (double)(p->sumsq ? p->full_width : p->width));
    for (int64_t c = 0; c < p->width; c += CHUNK) {
        int64_t n = min64(CHUNK, p->width - c);
        float *to = out(p->dx, d + c, p->type, dbuf);
        gradient(to, dw + c, p->accumulate ? view(p->dx, d + c, n, p->type, before) : NULL,
                 view(p->dy, y + c, n, p->type, ybuf), view(p->x, x + c, n, p->type, xbuf),
                 view(p->w, c, n, p->type, wbuf), rstd, shrink, limit(p->clip), n);
        put(p->dx, d + c, n, p->type, to);
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
            for (int64_t i = units * b / blocks; i < units * (b + 1) / blocks; i++)
                backward_row(p, i / p->heads, i % p->heads, part + b * p->width);
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

static void cpu_row_sums(struct stream *s, const struct row_sums *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++) {
        int64_t x = r * p->ldx, dy = r * p->lddy;
        if (p->sumsq)
            p->sumsq[r] = (float)sum_of_squares(p->x, x, p->width, p->type);
        if (!p->dot)
            continue;
        float rstd = p->clip > 0 ? (float)(1 / sqrt(p->sumsq_in[r] / (double)p->full_width + p->eps)) : 0;
        p->dot[r] = (float)row_dot(p->x, x, p->dy, dy, p->w, rstd, p->clip, p->width, p->type);
    }
}

void norm_install(struct backend *be)
{
    be->rmsnorm = cpu_rmsnorm;
    be->rmsnorm_backward = cpu_rmsnorm_backward;
    be->row_sums = cpu_row_sums;
}
