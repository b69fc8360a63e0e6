/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../number.h"
#include "../random.h"
#include "ref.h"

void ref_total(struct stream *s, const struct total *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++)
        sum += p->y ? (double)p->x[i] * p->y[i] : p->x[i];
    *p->out += p->scale * sum;
}

void ref_scale(struct stream *s, const struct scale *p)
{
    for (int64_t i = 0; i < p->count; i++)
        p->x[i] *= p->scale;
}

void ref_clip(struct stream *s, const struct clip *p)
{
    double norm = sqrt(*p->square);
    p->update->grad_scale = p->limit > 0 ? (float)fmin(1, p->limit / (norm + 1e-6)) : 1;
    p->update->skip = !(isfinite(norm) && isfinite(*p->loss));
}

void ref_adamw(struct stream *s, const struct adamw *p)
{
    struct update u = *p->update;
    for (int64_t i = 0; i < p->count && !u.skip; i++) {
        float g = p->grad[i] * u.grad_scale, w = p->master[i];
        w -= u.lr * p->decay * w;
        p->m[i] = p->beta1 * p->m[i] + (1 - p->beta1) * g;
        p->v[i] = p->beta2 * p->v[i] + (1 - p->beta2) * (g * g);
        w -= u.lr / u.correction1 * p->m[i] / (sqrtf(p->v[i] / u.correction2) + p->eps);
        p->master[i] = w;
        if (p->param)
            store(p->param, i, p->type, w);
    }
}

void ref_balance(struct stream *s, const struct balance *p)
{
    int64_t E = p->experts;
    for (int64_t l = 0; l < p->layers && !p->update->skip; l++) {
        const float *load = p->loads + l * E;
        double mean = 0;
        for (int64_t e = 0; e < E; e++)
            mean += load[e] / (double)E;
        for (int64_t e = 0; e < E; e++)
            p->bias[l * E + e] += (float)(p->rate * ((mean > load[e]) - (mean < load[e])));
    }
}

void ref_fill_normal(struct stream *s, const struct fill_normal *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        fill_row(p, r);
}
