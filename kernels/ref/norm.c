/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../number.h"
#include "ref.h"

/* Written so that a NaN passes. */
static float clamped(float x, float limit)
{
    return x > limit ? limit : x < -limit ? -limit : x;
}

static double sum_of_squares(const void *x, int64_t i, int64_t width, enum type type)
{
    double sum = 0;
    for (int64_t c = 0; c < width; c++)
        sum += (double)load(x, i + c, type) * load(x, i + c, type);
    return sum;
}

void ref_rmsnorm(struct stream *s, const struct rmsnorm *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t h = 0; h < p->heads; h++) {
            int64_t x = r * p->ldx + h * p->width, y = r * p->ldy + h * p->width;
            double mean = p->sumsq ? (double)p->sumsq[r] / (double)p->full_width
                                   : sum_of_squares(p->x, x, p->width, p->type) / (double)p->width;
            float rstd = (float)(1 / sqrt(mean + p->eps));
            for (int64_t c = 0; c < p->width; c++) {
                float v = load(p->x, x + c, p->type) * rstd * load(p->w, c, p->type);
                store(p->y, y + c, p->type, p->clip > 0 ? clamped(v, p->clip) : v);
            }
        }
}

/* dy, or 0 where the clamp cut. */
static float through_clip(float dy, float xhat, float w, float clip)
{
    return clip > 0 && fabsf(xhat * w) >= clip ? 0 : dy;
}

/* y_c = w_c·x_c·r with r = (Σx²/n + eps)^(-1/2), hence dr/dx_j = -x_j·r³/n and
 *
 *     dx_j = dy_j·w_j·r - x_j · (Σ_c dy_c·w_c·x_c) · r³/n      the second factor is `dot`, the product `shrink`
 *     dw_c = dy_c·x_c·r                                         summed over rows and heads
 *
 * With x = (3, 4), w = (1, 1), dy = (1, 0) and eps 0: r = 12.5^(-1/2) = 0.2828, dot = 3, shrink = 3·0.02263/2 =
 * 0.0339, dx = (0.2828 - 3·0.0339, 0 - 4·0.0339) = (0.1810, -0.1358): at a right angle to x, whose length does
 * not matter. */
void ref_rmsnorm_backward(struct stream *s, const struct rmsnorm_backward *p)
{
    double full = (double)(p->sumsq ? p->full_width : p->width);
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t h = 0; h < p->heads; h++) {
            int64_t x = r * p->ldx + h * p->width, y = r * p->lddy + h * p->width,
                    d = r * p->lddx + h * p->width;
            double sumsq = p->sumsq ? p->sumsq[r] : sum_of_squares(p->x, x, p->width, p->type);
            float rstd = (float)(1 / sqrt(sumsq / full + p->eps));
            double dot = 0;
            for (int64_t c = 0; c < p->width; c++) {
                float v = load(p->x, x + c, p->type), w = load(p->w, c, p->type);
                dot += (double)through_clip(load(p->dy, y + c, p->type), v * rstd, w, p->clip) * w * v;
            }
            if (p->sumsq)
                dot = p->dot[r];
            float shrink = (float)(dot * rstd * rstd * rstd / full);
            for (int64_t c = 0; c < p->width; c++) {
                float v = load(p->x, x + c, p->type), w = load(p->w, c, p->type);
                float dy = through_clip(load(p->dy, y + c, p->type), v * rstd, w, p->clip);
                float before = p->accumulate ? load(p->dx, d + c, p->type) : 0;
                p->dw[c] += dy * v * rstd;
                store(p->dx, d + c, p->type, before + dy * w * rstd - v * shrink);
            }
        }
}

void ref_row_sums(struct stream *s, const struct row_sums *p)
{
    for (int64_t r = 0; r < p->rows; r++) {
        if (p->sumsq)
            p->sumsq[r] = (float)sum_of_squares(p->x, r * p->ldx, p->width, p->type);
        if (!p->dot)
            continue;
        float rstd =
            p->clip > 0 ? (float)(1 / sqrt((double)p->sumsq_in[r] / (double)p->full_width + p->eps)) : 0;
        double dot = 0;
        for (int64_t c = 0; c < p->width; c++) {
            float v = load(p->x, r * p->ldx + c, p->type), w = load(p->w, c, p->type);
            dot += (double)through_clip(load(p->dy, r * p->lddy + c, p->type), v * rstd, w, p->clip) * w * v;
        }
        p->dot[r] = (float)dot;
    }
}
