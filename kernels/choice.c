/* SPDX-License-Identifier: MIT */
#include "choice.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

struct choice_scratch {
    float *value; /* [E] what chooses: scores + bias; NaN once taken or out of the game */
    float *worth; /* [E] a group's */
};

struct choice_scratch *choice_scratch_new(int64_t experts)
{
    struct choice_scratch *s = xmalloc(sizeof *s);
    s->value = xmalloc((size_t)(experts + 1) * sizeof *s->value);
    s->worth = xmalloc((size_t)(experts + 1) * sizeof *s->worth);
    return s;
}

void choice_scratch_free(struct choice_scratch *s)
{
    free(s->value);
    free(s->worth);
    free(s);
}

/* The first of the largest; -1 when all are NaN. */
static int64_t best_of(const float *value, int64_t n)
{
    int64_t best = -1;
    float top = -INFINITY;
    for (int64_t e = 0; e < n; e++)
        if (value[e] > top || (best < 0 && value[e] == top)) {
            best = e;
            top = value[e];
        }
    return best;
}

/* The sum of a group's two best; of the only one in a group of one. */
static float group_worth(const float *value, int64_t n)
{
    float first = -INFINITY, second = -INFINITY;
    for (int64_t e = 0; e < n; e++) {
        if (value[e] > first) {
            second = first;
            first = value[e];
        } else if (value[e] > second) {
            second = value[e];
        }
    }
    return n > 1 ? first + second : first;
}

/* Takes all but the best groups out of the game: a group that stays is one whose worth has become NaN. */
static void limit_groups(const struct router *p, struct choice_scratch *s)
{
    int64_t size = p->experts / p->groups;
    for (int64_t g = 0; g < p->groups; g++)
        s->worth[g] = group_worth(s->value + g * size, size);
    for (int i = 0; i < p->top_groups; i++) {
        int64_t g = best_of(s->worth, p->groups);
        if (g >= 0)
            s->worth[g] = NAN;
    }
    for (int64_t e = 0; e < size * p->groups; e++)
        if (!isnan(s->worth[e / size]))
            s->value[e] = NAN;
}

void choose(const struct router *p, int64_t t, struct choice_scratch *s)
{
    const float *score = p->scores + t * p->experts;
    int32_t *topk = p->topk + t * p->top_k;
    float *weight = p->weight + t * p->top_k, sum = 0, last = 0;
    for (int64_t e = 0; e < p->experts; e++) {
        float value = score[e] + (p->bias ? p->bias[e] : 0);
        s->value[e] = isnan(value) ? INFINITY : value; /* chosen first, so that a NaN is not lost */
    }
    if (p->groups > 1)
        limit_groups(p, s);
    for (int64_t k = 0; k < p->top_k; k++) {
        int64_t e = best_of(s->value, p->experts);
        if (e < 0)
            e = k; /* fewer experts than K take part: still a valid index */
        topk[k] = (int32_t)e;
        weight[k] = score[e];
        sum += score[e];
        last = s->value[e];
        s->value[e] = NAN;
    }
    for (int64_t k = 0; k < p->top_k; k++)
        weight[k] = (p->renormalise ? weight[k] / (sum + 1e-20f) : weight[k]) * p->scale;
    if (p->margin) {
        int64_t next = best_of(s->value, p->experts);
        p->margin[t] = next < 0 ? INFINITY : last - s->value[next];
    }
}
