/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../number.h"
#include "ref.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void ref_swiglu(struct stream *s, const struct swiglu *p)
{
    for (int64_t r = 0, rows = counted(p->rows, p->count); r < rows; r++)
        for (int64_t f = 0; f < p->width; f++) {
            double gate = load(p->gate_up, r * 2 * p->width + f, p->type);
            double up = load(p->gate_up, r * 2 * p->width + p->width + f, p->type);
            double weight = p->weight ? p->weight[r] : 1;
            store(p->y, r * p->width + f, p->type, (float)(weight * gate * sigmoid(gate) * up));
        }
}

/* y = weight·silu(gate)·up with silu(g) = g·σ(g), and σ' = σ·(1 - σ), so silu'(g) = σ + g·σ·(1 - σ):
 *
 *     d_gate = weight·dy·up·σ·(1 + gate·(1 - σ))
 *     d_up = weight·dy·silu(gate)
 *     d_weight = Σ dy·silu(gate)·up */
void ref_swiglu_backward(struct stream *s, const struct swiglu_backward *p)
{
    for (int64_t r = 0, rows = counted(p->rows, p->count); r < rows; r++) {
        double d_weight = 0, weight = p->weight ? p->weight[r] : 1;
        for (int64_t f = 0; f < p->width; f++) {
            int64_t i = r * 2 * p->width + f;
            double gate = load(p->gate_up, i, p->type), up = load(p->gate_up, i + p->width, p->type);
            double dy = load(p->dy, r * p->width + f, p->type), sig = sigmoid(gate);
            d_weight += dy * gate * sig * up;
            store(p->d_gate_up, i, p->type, (float)(weight * dy * up * sig * (1 + gate * (1 - sig))));
            store(p->d_gate_up, i + p->width, p->type, (float)(weight * dy * gate * sig));
        }
        if (p->d_weight)
            p->d_weight[r] = (float)d_weight;
    }
}

/* What sums begin with: added to it all is as it was, a -0 too. */
#define NOTHING (-0.0F)

void ref_add(struct stream *s, const struct add *p)
{
    int parts = p->parts > 0 ? p->parts : 1;
    for (int64_t i = 0; i < p->count; i++) {
        float sum = NOTHING;
        for (int part = 0; part <= parts; part++) {
            if (part == p->before && p->a)
                sum += load(p->a, i, p->type);
            if (part < parts)
                sum += load(p->b, part * p->count + i, p->type);
        }
        store(p->y, i, p->type, sum);
    }
}

void ref_sum_rows(struct stream *s, const struct sum_rows *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->width; c++) {
            float sum = NOTHING;
            for (int part = 0; part < p->parts; part++)
                sum += load(p->x, part * p->stride + r * p->ldx + c, p->type);
            store(p->y, r * p->ldy + c, p->type, sum);
        }
}

void ref_add_f64(struct stream *s, const struct add_f64 *op)
{
    for (int64_t i = 0; i < op->count; i++)
        for (int p = 0; p < op->parts; p++)
            op->y[i] += op->b[p * op->count + i];
}

void ref_bias(struct stream *s, const struct bias *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->width; c++) {
            int64_t i = r * p->ldx + c;
            store(p->x, i, p->type, load(p->x, i, p->type) + load(p->bias, c, p->type));
        }
}

void ref_bias_backward(struct stream *s, const struct bias_backward *p)
{
    for (int64_t c = 0; c < p->width; c++) {
        double sum = 0;
        for (int64_t r = 0; r < p->rows; r++)
            sum += load(p->dy, r * p->lddy + c, p->type);
        p->d_bias[c] += (float)sum;
    }
}

void ref_clamp(struct stream *s, const struct clamp *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->width; c++) {
            float x = load(p->x, r * p->ldx + c, p->type);
            store(p->x, r * p->ldx + c, p->type, x > p->limit ? p->limit : x < -p->limit ? -p->limit : x);
        }
}

void ref_clamp_backward(struct stream *s, const struct clamp_backward *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t c = 0; c < p->width; c++)
            if (fabsf(load(p->x, r * p->ldx + c, p->type)) >= p->limit)
                store(p->dx, r * p->lddx + c, p->type, 0);
}

void ref_copy_rows(struct stream *s, const struct copy_rows *p)
{
    for (int64_t r = 0; r < p->rows; r++)
        if (p->width)
            memcpy(at(p->y, r * p->ldy, p->type), at(p->x, r * p->ldx, p->type),
                   (size_t)p->width * type_bytes(p->type));
}

void ref_convert(struct stream *s, const struct convert *p)
{
    for (int64_t i = 0; i < p->count; i++)
        store(p->y, i, p->to, load(p->x, i, p->from) * p->scale);
}

void ref_row_gate(struct stream *s, const struct row_gate *p)
{
    for (int64_t r = 0; r < p->rows; r++) {
        float gate = (float)sigmoid(p->g[r]);
        for (int64_t c = 0; c < p->width; c++)
            store(p->y, r * p->width + c, p->type, gate * load(p->x, r * p->width + c, p->type));
    }
}

void ref_row_gate_backward(struct stream *s, const struct row_gate_backward *p)
{
    for (int64_t r = 0; r < p->rows; r++) {
        double gate = sigmoid(p->g[r]), sum = 0;
        for (int64_t c = 0; c < p->width; c++) {
            float dy = load(p->dy, r * p->width + c, p->type);
            sum += (double)dy * load(p->x, r * p->width + c, p->type);
            store(p->dx, r * p->width + c, p->type, (float)gate * dy);
        }
        p->dg[r] = (float)(gate * (1 - gate) * sum);
    }
}
