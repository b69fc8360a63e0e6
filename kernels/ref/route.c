/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>

#include "../choice.h"
#include "../number.h"
#include "base/memory.h"
#include "ref.h"

/* A sum of scores is never 0 in a division. */
static const float TINY = 1e-20f;

static float logsumexp(const float *z, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t e = 0; e < n; e++)
        max = z[e] > max ? z[e] : max;
    for (int64_t e = 0; e < n; e++)
        sum += exp(z[e] - max);
    return (float)(max + log(sum));
}

void ref_router(struct stream *s, const struct router *p)
{
    struct choice_scratch *scratch = choice_scratch_new(p->experts);
    for (int64_t t = 0; t < p->tokens; t++) {
        const float *z = p->logits + t * p->experts;
        float *score = p->scores + t * p->experts;
        p->lse[t] = logsumexp(z, p->experts);
        for (int64_t e = 0; e < p->experts; e++)
            score[e] = (float)(p->sigmoid ? 1 / (1 + exp(-z[e])) : exp((double)z[e] - p->lse[t]));
        choose(p, t, scratch);
    }
    choice_scratch_free(scratch);
}

/* ds[e]: the gradient of token t's scores, from the combine weights and the auxiliary loss.
 *
 * Weights: w_k = scale·s_k, or renormalised scale·s_k/S with S = Σ s_k over the chosen. Then
 *     ds_k = scale·(dw_k - Σ_i dw_i·s_i/S)/S                 the sum is `mean`
 * Auxiliary loss: a_e to each p_e = s_e; of a sigmoid router p_e = s_e/T, T = Σ s_e over all. Then
 *     ds_e += (a_e - Σ_i a_i·s_i/T)/T                        the sum is aux_mean/T */
static void score_gradient(const struct router_backward *b, int64_t t, double *ds)
{
    const struct router *p = &b->fwd;
    const float *score = p->scores + t * p->experts, *d_weight = b->d_weight + t * p->top_k;
    const int32_t *topk = p->topk + t * p->top_k;
    double chosen = TINY, mean = 0, total = 0, aux_mean = 0;
    for (int64_t k = 0; k < p->top_k; k++)
        chosen += score[topk[k]];
    for (int64_t k = 0; k < p->top_k; k++)
        mean += d_weight[k] * score[topk[k]] / chosen;
    for (int64_t e = 0; e < p->experts; e++) {
        total += score[e];
        aux_mean += b->aux ? (double)b->aux[e] * score[e] : 0;
    }
    for (int64_t e = 0; e < p->experts; e++) {
        double aux = b->aux ? b->aux[e] : 0;
        ds[e] = p->sigmoid ? (aux - aux_mean / (total + TINY)) / (total + TINY) : aux;
    }
    for (int64_t k = 0; k < p->top_k; k++)
        ds[topk[k]] += p->scale * (p->renormalise ? (d_weight[k] - mean) / chosen : d_weight[k]);
}

/* dlogits from ds: s_e·(ds_e - Σ_i s_i·ds_i) of softmax, s_e·(1 - s_e)·ds_e of sigmoid. The z-loss adds z·lse
 * times the softmax. */
void ref_router_backward(struct stream *s, const struct router_backward *b)
{
    const struct router *p = &b->fwd;
    double *ds = xmalloc((size_t)(p->experts + 1) * sizeof *ds);
    for (int64_t t = 0; t < p->tokens; t++) {
        const float *score = p->scores + t * p->experts, *z = p->logits + t * p->experts;
        double mean = 0;
        score_gradient(b, t, ds);
        for (int64_t e = 0; e < p->experts; e++)
            mean += score[e] * ds[e];
        for (int64_t e = 0; e < p->experts; e++) {
            double prob = p->sigmoid ? exp((double)z[e] - p->lse[t]) : score[e];
            double d = p->sigmoid ? score[e] * (1 - score[e]) * ds[e] : score[e] * (ds[e] - mean);
            b->dlogits[t * p->experts + e] = (float)(d + (b->z != 0 ? b->z * p->lse[t] * prob : 0));
        }
    }
    free(ds);
}

void ref_router_stats(struct stream *s, const struct router_stats *p)
{
    double *prob = xcalloc((size_t)(p->experts + 1), sizeof *prob), z = 0;
    for (int64_t e = 0; e < p->experts; e++)
        p->count[e] = 0;
    for (int64_t t = 0; t < p->tokens; t++) {
        const float *score = p->scores + t * p->experts;
        double total = TINY;
        for (int64_t e = 0; e < p->experts; e++)
            total += score[e];
        for (int64_t e = 0; e < p->experts; e++)
            prob[e] += p->sigmoid ? score[e] / total : score[e];
        for (int64_t k = 0; k < p->top_k; k++)
            p->count[p->topk[t * p->top_k + k]] += 1;
        z += (double)p->lse[t] * p->lse[t];
    }
    for (int64_t e = 0; e < p->experts; e++)
        p->prob[e] = (float)prob[e];
    *p->z = (float)z;
    free(prob);
}

/* Better first: the larger weight, then the lower token. */
struct bid {
    float weight;
    int64_t index; /* t·K + k */
};

static int compare_bids(const void *a, const void *b)
{
    const struct bid *x = a, *y = b;
    if (isnan(x->weight) != isnan(y->weight))
        return isnan(x->weight) ? -1 : 1;
    if (x->weight != y->weight && !isnan(x->weight))
        return x->weight > y->weight ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Bids lie expert by expert. start[e+1] counts up from the first place of expert e's bids to the first of the
 * next expert's, so that in the end start[e] and start[e+1] are the two ends of expert e's. */
void ref_capacity(struct stream *s, const struct capacity *p)
{
    int64_t choices = p->tokens * p->top_k, dropped = 0, seq = p->seq ? p->seq : choices + 1;
    int64_t *start = xcalloc((size_t)p->experts + 2, sizeof *start);
    struct bid *bid = xmalloc((size_t)(choices + 1) * sizeof *bid);
    for (int64_t i = 0; i < choices; i++)
        start[p->topk[i] + 2]++;
    for (int64_t e = 0; e < p->experts; e++)
        start[e + 1] += start[e];
    for (int64_t i = 0; i < choices; i++)
        bid[start[p->topk[i] + 1]++] =
            (struct bid){p->by_prob ? p->weight[i] : -(float)(i / p->top_k % seq), i};
    for (int64_t e = 0; e < p->experts; e++) {
        int64_t count = start[e + 1] - start[e];
        if (count > p->capacity)
            qsort(bid + start[e], (size_t)count, sizeof *bid, compare_bids);
        for (int64_t i = 0; i < count; i++)
            p->keep[bid[start[e] + i].index] = i < p->capacity;
        dropped += count > p->capacity ? count - p->capacity : 0;
    }
    *p->dropped = (float)dropped;
    free(start);
    free(bid);
}

/* A counting sort: rows are numbered expert by expert, and within one as the choices come. Two choices a token,
 * three experts, nothing dropped:
 *
 *     choice i = t·K + k     0 1  2 3  4 5
 *     topk                   2 0  0 2  1 0      count = 3 1 2, so the experts' first rows are 0 3 4
 *     position               4 0  1 5  3 2
 *     source of rows 0…5     1 2 5  4  0 3 */
void ref_sort_choices(struct stream *s, const struct sort_choices *p)
{
    int64_t choices = p->tokens * p->top_k;
    int64_t *next = xcalloc((size_t)p->experts + 1, sizeof *next);
    for (int64_t e = 0; e < p->experts; e++)
        p->count[e] = 0;
    for (int64_t i = 0; i < choices; i++)
        if (!p->keep || p->keep[i])
            p->count[p->slot_of ? p->slot_of[p->topk[i]] : p->topk[i]]++;
    for (int64_t e = 0; e < p->experts; e++)
        next[e + 1] = next[e] + p->count[e];
    for (int64_t e = 0; e <= p->experts; e++)
        p->first[e] = (int32_t)next[e];
    for (int64_t i = 0; i < choices; i++) {
        p->position[i] = -1;
        if (p->keep && !p->keep[i])
            continue;
        int64_t row = next[p->slot_of ? p->slot_of[p->topk[i]] : p->topk[i]]++;
        p->position[i] = (int32_t)row;
        p->source[row] = (int32_t)i;
    }
    free(next);
}

void ref_permute(struct stream *s, const struct permute *p)
{
    for (int64_t r = 0, rows = counted(p->rows, p->count); r < rows; r++) {
        int64_t x = p->source[r] / p->top_k * p->width;
        if (p->width)
            memcpy(at(p->y, r * p->ldy, p->type), at(p->x, x, p->type), (size_t)p->width * type_bytes(p->type));
        if (p->weight_out)
            p->weight_out[r * p->ldw] = p->weight_in[p->source[r]];
    }
}

void ref_unpermute(struct stream *s, const struct unpermute *p)
{
    for (int64_t t = 0; t < p->tokens; t++) {
        const int32_t *position = p->position + t * p->top_k;
        for (int64_t c = 0; c < p->width; c++) {
            float sum = 0;
            for (int64_t k = 0; k < p->top_k; k++)
                if (position[k] >= 0)
                    sum += load(p->x, position[k] * p->ldx + c, p->type);
            store(p->y, t * p->width + c, p->type, sum);
        }
        for (int64_t k = 0; p->weight_in && k < p->top_k; k++)
            p->weight_out[t * p->top_k + k] = position[k] < 0 ? 0 : p->weight_in[position[k] * p->ldw];
    }
}

/* Row `at` of the experts' order as one of those that come, [0, rows]. */
static int32_t within(const struct arrivals *p, int64_t at)
{
    return (int32_t)(at < p->first ? 0 : at - p->first > p->rows ? p->rows : at - p->first);
}

void ref_arrivals(struct stream *s, const struct arrivals *p)
{
    int64_t at = 0, n = 0;
    p->to[0] = within(p, 0);
    for (int64_t i = 0; i < p->experts; i++) {
        p->row[i] = within(p, at);
        for (int64_t q = 0; q < p->sources; q++)
            p->to[++n] = within(p, at += p->arrived[q * p->experts + i]);
    }
    p->row[p->experts] = within(p, at);
    for (int64_t q = 0, wire = 0; q < p->sources; q++) {
        wire = p->block ? q * p->block : wire;
        for (int64_t i = 0; i < p->experts; i++) {
            const int32_t *to = &p->to[i * p->sources + q];
            p->from[i * p->sources + q] = (int32_t)wire;
            wire += to[1] - to[0];
        }
    }
}

void ref_regroup(struct stream *s, const struct regroup *p)
{
    size_t bytes = (size_t)p->width * type_bytes(p->type);
    for (int64_t i = 0; i < p->segments; i++)
        for (int64_t r = p->to[i], w = p->from[i]; r < counted(p->rows, &p->to[i + 1]); r++, w++) {
            void *grouped = at(p->grouped, r * p->width, p->type), *wire = at(p->wire, w * p->ld, p->type);
            if (bytes)
                memcpy(p->back ? wire : grouped, p->back ? grouped : wire, bytes);
            if (p->weight && p->back)
                p->wire_weight[w * p->ldw] = p->weight[r];
            else if (p->weight)
                p->weight[r] = p->wire_weight[w * p->ldw];
        }
}
