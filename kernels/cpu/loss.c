/* SPDX-License-Identifier: MIT */
#include "base/num.h"
#include "cpu.h"
#include "piece.h"

static void cpu_embedding(struct stream *s, const struct embedding *p)
{
    size_t bytes = (size_t)p->width * type_bytes(p->type);
    if (bytes == 0)
        return;
#pragma omp parallel for schedule(static) if (p->tokens * p->width > WORTH)
    for (int64_t t = 0; t < p->tokens; t++) {
        int64_t row = p->token[t] - p->first;
        void *y = at(p->y, t * p->width, p->type);
        if (row >= 0 && row < p->count)
            memcpy(y, at(p->table, row * p->width, p->type), bytes);
        else
            memset(y, 0, bytes);
    }
}

HOT static void add_to(float *y, const float *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* A thread owns columns: rows meet in token order whoever adds them. */
static void cpu_embedding_backward(struct stream *s, const struct embedding_backward *p)
{
    enum { COLUMNS = 128 };
#pragma omp parallel for schedule(static) if (p->tokens * p->width > WORTH)
    for (int64_t c = 0; c < p->width; c += COLUMNS) {
        float buf[COLUMNS];
        int64_t n = min64(COLUMNS, p->width - c);
        for (int64_t t = 0; t < p->tokens; t++) {
            int64_t row = p->token[t] - p->first;
            if (row >= 0 && row < p->count)
                add_to(p->d_table + row * p->width + c, view(p->dy, t * p->width + c, n, p->type, buf), n);
        }
    }
}

static void stats_row(const struct softmax_stats *p, int64_t t)
{
    const float *z = p->logits + t * p->width;
    float max = max_of(z, p->width), shift = max == -INFINITY ? 0 : max;
    double sum = 0;
    for (int64_t c = 0; c < p->width; c += CHUNK)
        sum += sum_exp(z + c, shift, min64(CHUNK, p->width - c));
    int64_t target = p->target[t] - p->first;
    p->stats[3 * t] = max;
    p->stats[3 * t + 1] = (float)sum;
    p->stats[3 * t + 2] = target >= 0 && target < p->width ? z[target] : -INFINITY;
}

static void cpu_softmax_stats(struct stream *s, const struct softmax_stats *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t t = 0; t < p->rows; t++)
        stats_row(p, t);
}

/* The largest logit of row t and the sum of exponentials relative to it, over all parts. */
static void merge(const struct cross_entropy *p, int64_t t, double *shift, double *sum, float *z_target)
{
    double max = -INFINITY;
    for (int i = 0; i < p->parts; i++) {
        double part = p->stats[(i * p->rows + t) * 3];
        max = part > max ? part : max;
    }
    *shift = max == -INFINITY ? 0 : max;
    *sum = 0;
    *z_target = -INFINITY;
    for (int i = 0; i < p->parts; i++) {
        const float *part = p->stats + (i * p->rows + t) * 3;
        *sum += part[1] * (part[0] == -INFINITY ? 1 : exp(part[0] - *shift));
        if (part[2] != -INFINITY)
            *z_target = part[2];
    }
}

HOT static void softmax_piece(float *y, const float *z, float shift, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_fast(z[i] - shift) * by;
}

static void loss_row(const struct cross_entropy *p, int64_t t)
{
    float buf[CHUNK], z_target;
    double shift, sum;
    merge(p, t, &shift, &sum, &z_target);
    p->loss[t] = (float)(shift + log(sum) - z_target);
    int64_t target = p->target[t] - p->first;
    for (int64_t c = 0; p->dlogits && c < p->width; c += CHUNK) {
        int64_t i = t * p->width + c, n = min64(CHUNK, p->width - c);
        float *to = out(p->dlogits, i, p->type, buf);
        softmax_piece(to, p->logits + i, (float)shift, (float)(p->scale / sum), n);
        if (target >= c && target < c + n)
            to[target - c] -= p->scale;
        put(p->dlogits, i, n, p->type, to);
    }
}

static void cpu_cross_entropy(struct stream *s, const struct cross_entropy *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t t = 0; t < p->rows; t++)
        loss_row(p, t);
}

void loss_install(struct backend *be)
{
    be->embedding = cpu_embedding;
    be->embedding_backward = cpu_embedding_backward;
    be->softmax_stats = cpu_softmax_stats;
    be->cross_entropy = cpu_cross_entropy;
}
