/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "../random.h"
#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

enum { BLOCK = 16 * 1024 };

typedef double block_sum(const float *x, const float *y, int64_t n);

HOT static double squares_block(const float *x, const float *y, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

HOT static double sum_block(const float *x, const float *y, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* Of a few numbers: in order. */
static double products_block(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return sum;
}

/* Blocks do not depend on the threads; their sums are added in order. */
static double over_blocks(const float *x, const float *y, int64_t count, block_sum *block)
{
    int64_t blocks = ceil_div(count, BLOCK);
    double sum = 0, *part = xmalloc((size_t)(blocks + 1) * sizeof *part);
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (int64_t b = 0; b < blocks; b++)
        part[b] = block(x + b * BLOCK, y ? y + b * BLOCK : NULL, min64(BLOCK, count - b * BLOCK));
    for (int64_t b = 0; b < blocks; b++)
        sum += part[b];
    free(part);
    return sum;
}

static void cpu_total(struct stream *s, const struct total *p)
{
    block_sum *block = !p->y ? sum_block : p->y == p->x ? squares_block : products_block;
    *p->out += p->scale * over_blocks(p->x, p->y, p->count, block);
}

HOT static void scale_block(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

static void cpu_scale(struct stream *s, const struct scale *p)
{
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += BLOCK)
        scale_block(p->x + i, p->scale, min64(BLOCK, p->count - i));
}

HOT static void adamw_piece(const struct adamw *p, const struct update *u, float *restrict master,
                            float *restrict m, float *restrict v, const float *restrict grad, int64_t n)
{
    float by = u->grad_scale, shrink = u->lr * p->decay, b1 = p->beta1, b2 = p->beta2, eps = p->eps;
    float step = u->lr / u->correction1, correction2 = u->correction2;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * by, w = master[i];
        w -= shrink * w;
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * (g * g);
        master[i] = w - step * m[i] / (sqrtf(v[i] / correction2) + eps);
    }
}

static void cpu_adamw(struct stream *s, const struct adamw *p)
{
    struct update u = *p->update;
    if (u.skip)
        return;
#pragma omp parallel for schedule(static) if (p->count > WORTH)
    for (int64_t i = 0; i < p->count; i += CHUNK) {
        int64_t n = min64(CHUNK, p->count - i);
        adamw_piece(p, &u, p->master + i, p->m + i, p->v + i, p->grad + i, n);
        if (p->param && p->type == F32)
            memcpy((float *)p->param + i, p->master + i, (size_t)n * sizeof(float));
        else if (p->param)
            narrow((uint16_t *)p->param + i, p->master + i, n);
    }
}

static void cpu_fill_normal(struct stream *s, const struct fill_normal *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        fill_row(p, r);
}

void optim_install(struct backend *be)
{
    be->total = cpu_total;
    be->scale = cpu_scale;
    be->adamw = cpu_adamw;
    be->fill_normal = cpu_fill_normal;
}
