/* SPDX-License-Identifier: MIT */
#include "plan/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* Parameters a token meets: what a layer costs in arithmetic, but for attention's own scores. */
static double layer_cost(const struct plan *p, int64_t layer)
{
    const struct model *m = &p->model;
    double q = (double)model_q_dim(m), kv = (double)model_kv_dim(m), h = (double)m->hidden;
    double attention =
        h * (2 * q + 2 * kv) + (double)p->batch.seq * q; /* scores and values of half the positions */
    double mlp = m->moe[layer] ? 3 * h * (double)(m->top_k * m->expert_ffn + m->shared_ffn)
                               : 3 * h * (double)m->dense_ffn;
    return attention + mlp;
}

static double head_cost(const struct plan *p)
{
    return (double)p->model.hidden * (double)p->model.vocab;
}

void split_costs(const struct plan *p, double *cost)
{
    for (int i = 0; i < p->axes.pp; i++)
        cost[i] = 0;
    for (int i = 0; i < p->stage_count; i++)
        for (int l = p->stages[i].first; l < p->stages[i].first + p->stages[i].layers; l++)
            cost[p->stages[i].pp] += layer_cost(p, l);
    cost[p->stages[p->stage_count - 1].pp] += head_cost(p);
}

/* Cuts `layers` into n runs so that the sum of squared costs is least: that keeps the largest small and the
 * others even. best[s][l] is the least sum for the first l layers on the first s stages. */
static void split_auto(const struct plan *p, int n, int *counts)
{
    int layers = (int)p->model.layers, wide = layers + 1;
    double *sum = xcalloc(wide, sizeof *sum), *best = xcalloc((size_t)(n + 1) * wide, sizeof *best);
    int *cut = xcalloc((size_t)(n + 1) * wide, sizeof *cut);
    for (int l = 0; l < layers; l++)
        sum[l + 1] = sum[l] + layer_cost(p, l);
    for (int l = 1; l <= layers; l++)
        best[l] = INFINITY;
    double head = head_cost(p);
    for (int s = 1; s <= n; s++)
        for (int l = 0; l <= layers; l++) {
            double *b = &best[s * wide + l];
            *b = INFINITY;
            for (int from = l; from >= 0; from--) {
                double cost = sum[l] - sum[from] + (s == n ? head : 0),
                       all = best[(s - 1) * wide + from] + cost * cost;
                if (all < *b) {
                    *b = all;
                    cut[s * wide + l] = from;
                }
            }
        }
    for (int s = n, l = layers; s >= 1; s--) {
        counts[s - 1] = l - cut[s * wide + l];
        l = cut[s * wide + l];
    }
    free(sum);
    free(best);
    free(cut);
}

static int split_parse(const char *split, int64_t layers, int n, int *counts)
{
    const char *p = split;
    int64_t sum = 0;
    int items = 0;
    for (bool more = true; more; items++) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || *p < '0' || *p > '9' || (*end && *end != ',') || v > layers)
            return error(STATUS_USAGE,
                         "rule stages-cover: split '%s' must be 'auto' or numbers of layers, as in 4,3,4,5",
                         split);
        if (items < n)
            counts[items] = (int)v;
        sum += v;
        more = *end == ',';
        p = end + more;
    }
    if (items != n)
        return error(STATUS_USAGE, "rule stages-cover: split '%s' has %d stages; pp · vpp is %d", split, items,
                     n);
    if (sum != layers)
        return error(STATUS_USAGE, "rule stages-cover: split '%s' has %lld layers; the model has %lld", split,
                     (long long)sum, (long long)layers);
    return 0;
}

int split_make(struct plan *p, const char *split)
{
    int64_t n = p->axes.pp * p->axes.vpp;
    if (n > 1 << 16)
        return error(STATUS_USAGE, "rule stages-cover: %lld virtual stages are more than %d", (long long)n,
                     1 << 16);
    if (split && strcmp(split, "auto") == 0 &&
        (double)n * (double)p->model.layers * (double)p->model.layers > 1e9)
        return error(STATUS_USAGE, "split auto: too many stages (%lld) and layers (%lld)", (long long)n,
                     (long long)p->model.layers);
    int *counts = xcalloc(n, sizeof *counts);
    if (split && strcmp(split, "auto") == 0) {
        split_auto(p, (int)n, counts);
    } else if (split) {
        if (split_parse(split, p->model.layers, (int)n, counts) < 0) {
            free(counts);
            return -1;
        }
    } else {
        for (int64_t i = 0; i < n; i++)
            counts[i] = (int)(p->model.layers / n + (i < p->model.layers % n));
    }
    p->stage_count = (int)n;
    p->stages = xcalloc(n, sizeof *p->stages);
    for (int i = 0, first = 0; i < n; first += counts[i++])
        p->stages[i] = (struct stage){i % (int)p->axes.pp, i / (int)p->axes.pp, first, counts[i]};
    free(counts);
    return 0;
}
