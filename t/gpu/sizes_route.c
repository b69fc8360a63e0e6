/* SPDX-License-Identifier: MIT */
/* The programme of sizes: routing. `n` is the number of experts, `width` a row's; a token has K choices. */
#include <stdlib.h>

#include "base/memory.h"
#include "gpu/sizes.h"

enum { K = 4 };

/* Logits of which no two of a token are near each other: multiples of 8/E, shuffled. Backends differ by
 * rounding, and where two scores are within that, so may their choices. */
static float *logits_of(struct side *s, int64_t experts)
{
    int64_t T = s->rows;
    float *host = xmalloc((size_t)(T * experts) * sizeof *host);
#pragma omp parallel for
    for (int64_t t = 0; t < T; t++)
        for (int64_t e = 0; e < experts; e++) { /* inside-out Fisher-Yates */
            float *row = host + t * experts;
            int64_t j = int_at(s, t * experts + e, 0, (int32_t)e + 1);
            row[e] = row[j];
            row[j] = (float)(8.0 * (double)e / (double)experts - 4);
        }
    float *p = host_of(s, host, (size_t)(T * experts) * sizeof *host);
    free(host);
    return p;
}

static struct router router_of(struct side *s, bool sigmoid)
{
    int64_t E = s->n;
    struct router p = OP(router, .tokens = s->rows, .experts = E, .top_k = K, .sigmoid = sigmoid,
                         .renormalise = true, .scale = 2.5f);
    p.logits = logits_of(s, E);
    p.scores = rows_of(s, E, F32, 0);
    p.lse = rows_of(s, 1, F32, 0);
    p.topk = ints_of(s, K, 0, 1);
    p.weight = rows_of(s, K, F32, 0);
    p.margin = rows_of(s, 1, F32, 0);
    s->be->router(s->s, &p);
    return p;
}

static void route_as(struct side *s, bool sigmoid)
{
    int64_t E = s->n;
    struct router p = router_of(s, sigmoid);
    show(s, "scores", p.scores, E, F32, 5e-5);
    show(s, "lse", p.lse, 1, F32, 5e-5);
    show_ints(s, "choices", p.topk, K);
    show(s, "weights", p.weight, K, F32, 5e-5);
    show(s, "margins", p.margin, 1, F32, 5e-5);
    float *prob = whole_of(s, E, F32, 1), *count = whole_of(s, E, F32, 1), *z = whole_of(s, 1, F32, 1);
    s->be->router_stats(s->s, &OP(router_stats, .tokens = s->rows, .experts = E, .top_k = K, .sigmoid = sigmoid,
                                  .scores = p.scores, .lse = p.lse, .topk = p.topk, .prob = prob,
                                  .count = count, .z = z));
    show_whole(s, "sums of probabilities", prob, E, F32, 2e-5);
    show_whole(s, "counts", count, E, F32, 0);
    show_whole(s, "sum of squares", z, 1, F32, 2e-5);
    float *d_weight = rows_of(s, K, F32, 1), *aux = whole_of(s, E, F32, 1), *d = rows_of(s, E, F32, 1);
    s->be->router_backward(
        s->s, &OP(router_backward, .fwd = p, .d_weight = d_weight, .aux = aux, .z = 0.25f, .dlogits = d));
    show(s, "gradient", d, E, F32, 5e-5);
}

static void route(struct side *s)
{
    route_as(s, false);
}
static void route_sigmoid(struct side *s)
{
    route_as(s, true);
}

static void sort(struct side *s)
{
    int64_t E = s->n, T = s->rows;
    struct router p = router_of(s, false);
    int32_t *keep[2] = {ints_of(s, K, 0, 1), ints_of(s, K, 0, 1)};
    int32_t *count = zeros_of(s, E), *first = zeros_of(s, E + 1);
    int32_t *position = ints_of(s, K, 0, 1), *source = ints_of(s, K, 0, 1);
    float *dropped = whole_of(s, 2, F32, 1);
    for (int by_prob = 0; by_prob < 2; by_prob++) {
        s->be->capacity(s->s, &OP(capacity, .tokens = T, .experts = E, .top_k = K, .capacity = T * K / E,
                                  .by_prob = by_prob, .topk = p.topk, .weight = p.weight, .keep = keep[by_prob],
                                  .dropped = dropped + by_prob));
        show_ints(s, by_prob ? "kept by weight" : "kept by position", keep[by_prob], K);
    }
    show_whole(s, "dropped", dropped, 2, F32, 0);
    s->be->sort_choices(s->s, &OP(sort_choices, .tokens = T, .experts = E, .top_k = K, .topk = p.topk,
                                  .keep = keep[1], .count = count, .first = first, .position = position,
                                  .source = source));
    show_ints(s, "positions", position, K);
    show_ints(s, "sources", source, K);
}

/* Rows to the experts: a choice in a place of its own, by a stride that has no divisor in common with their
 * number. The window is one of rows; the tokens are all there. */
static void permute(struct side *s)
{
    int64_t rows = s->all / K * K, T = rows / K, n = s->width;
    int64_t here = s->first + s->rows > rows ? rows - s->first : s->rows;
    int32_t *source = xcalloc((size_t)s->rows + 1, sizeof *source);
    for (int64_t r = 0; r < here; r++)
        source[r] = (int32_t)((s->first + r) * 1000003 % rows);
    int32_t *from = host_of(s, source, (size_t)s->rows * sizeof *source);
    free(source);
    void *x = whole_of(s, T * n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    float *weight = whole_of(s, T * K, F32, 1), *sent = rows_of(s, 1, F32, 1);
    s->be->permute(s->s,
                   &OP(permute, .tokens = T, .rows = here, .width = n, .top_k = K, .x = x, .source = from,
                       .y = y, .ldy = n, .weight_in = weight, .weight_out = sent, .ldw = 1, .type = s->type));
    show(s, "rows", y, n, s->type, 0);
    show(s, "weights", sent, 1, F32, 0);
}

/* And back: the window is one of tokens, with K rows each; the rows are all there. One choice in 16 is
 * dropped. */
static void unpermute(struct side *s)
{
    int64_t n = s->width, rows = s->all * K;
    int32_t *position = xcalloc((size_t)(s->rows * K) + 1, sizeof *position);
    for (int64_t i = 0; i < s->rows * K; i++) {
        int64_t at = (s->first * K + i) * 1000003 % rows;
        position[i] = at % 16 ? (int32_t)at : -1;
    }
    int32_t *from = host_of(s, position, (size_t)(s->rows * K) * sizeof *position);
    free(position);
    void *x = whole_of(s, rows * n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    float *weight = whole_of(s, rows, F32, 1), *back = rows_of(s, K, F32, 1);
    s->be->unpermute(s->s, &OP(unpermute, .tokens = s->rows, .rows = rows, .width = n, .top_k = K, .x = x,
                               .ldx = n, .position = from, .y = y, .weight_in = weight, .ldw = 1,
                               .weight_out = back, .type = s->type));
    show(s, "tokens", y, n, s->type, s->tol);
    show(s, "weights", back, K, F32, 0);
}

/* Rows from eight ranks for eight experts, which is all of the problem's rows; the window is one of the rows by
 * expert, as a pass over some of them is. */
static void regroup(struct side *s)
{
    enum { SOURCES = 8, EXPERTS = 8, SEGMENTS = SOURCES * EXPERTS };
    int32_t arrived[SEGMENTS];
    int64_t n = s->width, left = s->all;
    for (int i = 0; i < SEGMENTS; i++) {
        arrived[i] = (int32_t)(i + 1 < SEGMENTS ? left / (SEGMENTS - i) * (1 + i % 3) / 2 : left);
        left -= arrived[i];
    }
    int32_t *table = host_of(s, arrived, sizeof arrived), *row = zeros_of(s, EXPERTS + 1),
            *to = zeros_of(s, SEGMENTS + 1), *from = zeros_of(s, SEGMENTS);
    s->be->arrivals(s->s, &OP(arrivals, .sources = SOURCES, .experts = EXPERTS, .first = s->first,
                              .rows = s->rows, .arrived = table, .row = row, .to = to, .from = from));
    void *wire = whole_of(s, s->all * n, s->type, 1), *grouped = rows_of(s, n, s->type, 1);
    float *wire_weight = whole_of(s, s->all, F32, 1), *weight = rows_of(s, 1, F32, 1);
    struct regroup p = OP(regroup, .segments = SEGMENTS, .rows = s->rows, .wire_rows = s->all, .width = n,
                          .to = to, .from = from, .grouped = grouped, .weight = weight, .wire = wire, .ld = n,
                          .wire_weight = wire_weight, .ldw = 1, .type = s->type);
    s->be->regroup(s->s, &p);
    show(s, "rows by expert", grouped, n, s->type, 0);
    show(s, "their weights", weight, 1, F32, 0);
    p.back = true;
    p.wire = whole_of(s, s->all * n, s->type, 1);
    s->be->regroup(s->s, &p);
    show_whole(s, "rows on the wire", p.wire, s->all * n, s->type, 0);
}

const struct problem sizes_route[] = {{"router", route, 32768, 1024, 64, 0, false},
                                      {"router, many experts", route, 8192, 1024, 512, 0, false},
                                      {"router, sigmoid", route_sigmoid, 32768, 1024, 256, 0, false},
                                      {"sorting", sort, 32768, 1024, 64, 0, false},
                                      {"sorting, many experts", sort, 16384, 1024, 256, 0, false},
                                      {"permute", permute, 65536, 1024, 0, 1, false},
                                      {"permute, beyond 2^31", permute, 300000, 7168, 0, 1, true},
                                      {"unpermute", unpermute, 16384, 1024, 0, 1, false},
                                      {"unpermute, beyond 2^31", unpermute, 75000, 7168, 0, 1, true},
                                      {"regroup", regroup, 65536, 1024, 0, 0, false},
                                      {"regroup, beyond 2^31", regroup, 300000, 7168, 0, 1, true},
                                      {NULL, NULL, 0, 0, 0, 0, false}};
