/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "../number.h"
#include "ref.h"

void ref_embedding(struct stream *s, const struct embedding *p)
{
    for (int64_t t = 0; t < p->tokens; t++) {
        int64_t row = p->token[t] - p->first;
        for (int64_t c = 0; c < p->width; c++)
            store(p->y, t * p->width + c, p->type,
                  row >= 0 && row < p->count ? load(p->table, row * p->width + c, p->type) : 0);
    }
}

void ref_embedding_backward(struct stream *s, const struct embedding_backward *p)
{
    for (int64_t t = 0; t < p->tokens; t++) {
        int64_t row = p->token[t] - p->first;
        if (row < 0 || row >= p->count)
            continue;
        for (int64_t c = 0; c < p->width; c++)
            p->d_table[row * p->width + c] += load(p->dy, t * p->width + c, p->type);
    }
}

void ref_softmax_stats(struct stream *s, const struct softmax_stats *p)
{
    for (int64_t t = 0; t < p->rows; t++) {
        const float *z = p->logits + t * p->width;
        float max = -INFINITY;
        for (int64_t c = 0; c < p->width; c++)
            max = z[c] > max ? z[c] : max;
        double sum = 0, shift = max == -INFINITY ? 0 : max; /* no exp(-inf + inf) */
        for (int64_t c = 0; c < p->width; c++)
            sum += exp(z[c] - shift);
        int64_t target = p->target[t] - p->first;
        p->stats[3 * t] = max;
        p->stats[3 * t + 1] = (float)sum;
        p->stats[3 * t + 2] = target >= 0 && target < p->width ? z[target] : -INFINITY;
    }
}

/* The logsumexp of row t over all parts, and the logit of its target. A part gives its largest logit m and the
 * sum s of exp(z - m); with M the largest m, Σ exp(z) over all parts is exp(M) · Σ s·exp(m - M). */
static double merge(const struct cross_entropy *p, int64_t t, float *z_target)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < p->parts; i++) {
        double part = p->stats[(i * p->rows + t) * 3];
        max = part > max ? part : max;
    }
    double shift = max == -INFINITY ? 0 : max;
    *z_target = -INFINITY;
    for (int i = 0; i < p->parts; i++) {
        const float *part = p->stats + (i * p->rows + t) * 3;
        sum += part[1] * (part[0] == -INFINITY ? 1 : exp(part[0] - shift));
        if (part[2] != -INFINITY)
            *z_target = part[2];
    }
    return shift + log(sum);
}

/* loss = lse - z_target, lse = log Σ exp(z), so d loss/dz_c = exp(z_c - lse) - (1 if c is the target): the
 * probabilities, less one at the target. Their sum over the vocabulary is 0. */
void ref_cross_entropy(struct stream *s, const struct cross_entropy *p)
{
    for (int64_t t = 0; t < p->rows; t++) {
        float z_target;
        double lse = merge(p, t, &z_target);
        p->loss[t] = (float)(lse - z_target);
        if (!p->dlogits)
            continue;
        for (int64_t c = 0; c < p->width; c++) {
            double prob = exp(p->logits[t * p->width + c] - lse), hot = p->target[t] - p->first == c;
            store(p->dlogits, t * p->width + c, p->type, (float)(p->scale * (prob - hot)));
        }
    }
}
