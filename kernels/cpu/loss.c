/* SPDX-License-Identifier: MIT */
#include "base/num.h"
#include "cpu.h"
#include "lanes.h"
#include "powers.h"

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

enum { COLUMNS = 128 };
HOT static void embedding_columns(const struct embedding_backward *p, int64_t c)
{
    int64_t n = min64(COLUMNS, p->width - c);
    for (int64_t t = 0; t < p->tokens; t++) {
        int64_t row = p->token[t] - p->first;
        if (row >= 0 && row < p->count)
            BY_TYPE(p->type, add_to(p->d_table + row * p->width + c, at(p->dy, t * p->width + c, T), n, T));
    }
}

/* A thread owns columns: rows meet in token order whoever adds them. */
static void cpu_embedding_backward(struct stream *s, const struct embedding_backward *p)
{
#pragma omp parallel for schedule(static) if (p->tokens * p->width > WORTH)
    for (int64_t c = 0; c < p->width; c += COLUMNS)
        embedding_columns(p, c);
}

#define LEAST (-88.02969f)  /* a number whose power of e is 0 */
enum { BLOCK = 4 * CHUNK }; /* logits that are looked through for the largest before they are summed */

/* Σ e^(z - shift) over n <= CHUNK numbers. What is summed a block later comes in meanwhile. */
LOOP float sum_chunk_loop(const float *z, float shift, int64_t n, bool pick)
{
    struct lane_sum sum = {0};
    float rest = 0, least = LEAST;
    int64_t c = 0;
    __asm__("" : "+m"(least)); /* a maximum with a constant would become two instructions */
    for (; c + LANES <= n; c += LANES) {
        float v[LANES], power[LANES], scale[LANES];
        get(v, z + c, LANES, F32);
        ask_for(z + c + BLOCK, sizeof v);
        EACH_LANE v[l] -= shift;
        EACH_LANE v[l] = v[l] < least ? least : v[l];
        if (pick)
            picked_parts(power, scale, v, 1.44269504f, F32);
        else
            power_parts(power, scale, v, 1.44269504f, F32);
        add_products(&sum, power, scale);
    }
    for (; c < n; c++)
        rest += exp_fast(z[c] - shift);
    return total_of(&sum) + rest;
}

HOT static float sum_chunk_hot(const float *z, float shift, int64_t n)
{
    return sum_chunk_loop(z, shift, n, false);
}

#ifdef HOT_LEVELS
__attribute__((target("arch=x86-64-v4"))) static float sum_chunk_native(const float *z, float shift, int64_t n)
{
    return sum_chunk_loop(z, shift, n, true);
}
static float sum_chunk(const float *z, float shift, int64_t n)
{
    return __builtin_cpu_supports("x86-64-v4") ? sum_chunk_native(z, shift, n) : sum_chunk_hot(z, shift, n);
}
#else
#define sum_chunk sum_chunk_hot
#endif

/* The row is read once: what is summed is relative to the largest so far. */
static void stats_row(const struct softmax_stats *p, int64_t t)
{
    const float *z = p->logits + t * p->width;
    float max = -INFINITY;
    double sum = 0;
    for (int64_t b = 0; b < p->width; b += BLOCK) {
        int64_t end = min64(b + BLOCK, p->width);
        float before = max, largest = max_of(z + b, end - b);
        if (largest > max) {
            max = largest;
            sum *= exp(before - max);
        }
        for (int64_t c = b; c < end; c += CHUNK)
            sum += sum_chunk(z + c, max == -INFINITY ? 0 : max, min64(CHUNK, end - c));
    }
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

/* y = e^(z - shift)·by; y may be z. */
struct softmax_row {
    void *y;
    const float *z;
    float shift, by;
    int64_t width;
    enum type type; /* of y */
};

LOOP void softmax_row_loop(const struct softmax_row *p, enum type T)
{
    float least = LEAST;
    __asm__("" : "+m"(least)); /* as above */
    PIECES(c, n, p->width, {
        float v[LANES], power[LANES], scale[LANES];
        get_beside(v, p->z + c, n, T);
        ask_ahead(p->z + c, F32);
        ask_ahead(at(p->y, c, T), T);
        EACH_LANE v[l] -= p->shift;
        EACH_LANE v[l] = v[l] < least ? least : v[l];
        if (T == F32 || T == BF16)
            power_parts(power, scale, v, 1.44269504f, F32);
        else
            picked_parts(power, scale, v, 1.44269504f, F32);
        EACH_LANE v[l] = power[l] * (scale[l] * p->by);
        put(at(p->y, c, T), v, n, T);
    });
}
IN_LANES(softmax_row, (const struct softmax_row *p), (p))

static void loss_row(const struct cross_entropy *p, int64_t t)
{
    float z_target;
    double shift, sum;
    merge(p, t, &shift, &sum, &z_target);
    p->loss[t] = (float)(shift + log(sum) - z_target);
    if (!p->dlogits)
        return;
    const float *z = p->logits + t * p->width;
    void *to = at(p->dlogits, t * p->width, p->type);
    int64_t target = p->target[t] - p->first;
    float by = (float)(p->scale / sum), own;
    bool here = target >= 0 && target < p->width;
    if (here) /* read first: dlogits may be the logits */
        softmax_row(&(struct softmax_row){&own, z + target, (float)shift, by, 1, F32});
    softmax_row(&(struct softmax_row){to, z, (float)shift, by, p->width, p->type});
    if (here)
        store(to, target, p->type, own - p->scale);
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
