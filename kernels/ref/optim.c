/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../number.h"
#include "../random.h"
#include "ref.h"

void ref_sum_squares(struct stream *s, const struct sum_squares *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++)
        sum += (double)p->x[i] * p->x[i];
    *p->out = sum;
}

void ref_sum(struct stream *s, const struct sum *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++)
        sum += p->x[i];
    *p->out = sum;
}

void ref_scale(struct stream *s, const struct scale *p)
{
    for (int64_t i = 0; i < p->count; i++)
        p->x[i] *= p->scale;
}

void ref_adamw(struct stream *s, const struct adamw *p)
{
    for (int64_t i = 0; i < p->count; i++) {
        float g = p->grad[i] * p->grad_scale, w = p->master[i];
        w -= p->lr * p->decay * w;
        p->m[i] = p->beta1 * p->m[i] + (1 - p->beta1) * g;
        p->v[i] = p->beta2 * p->v[i] + (1 - p->beta2) * (g * g);
        w -= p->lr / p->correction1 * p->m[i] / (sqrtf(p->v[i] / p->correction2) + p->eps);
        p->master[i] = w;
        if (p->param)
            store(p->param, i, p->type, w);
    }
}

void ref_fill_normal(struct stream *s, const struct fill_normal *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        fill_row(p, r);
}
