/* SPDX-License-Identifier: MIT */
/* The operations of routing, on every backend against `ref` over awkward shapes. */
#include "base/memory.h"
#include "lib/kernels.h"

/* One layer's routing, from logits to rows and back. `form` says with what: its bits are sigmoid scores,
 * renormalised weights, an auxiliary loss, groups. */
struct route {
    int64_t T, E, K, rows;
    int form;
    struct router p;
    int32_t *position, *source; /* [T,K] */
    int32_t *first;             /* [E+1] */
};

static void choose_experts(struct world *w, struct route *r)
{
    int64_t T = r->T, E = r->E, K = r->K;
    int form = r->form;
    struct router p =
        OP(router, .tokens = T, .experts = E, .top_k = K, .sigmoid = form & 1, .renormalise = form & 2,
           .scale = 1.5f, .groups = E % 4 || !(form & 8) ? 0 : 4, .top_groups = 2);
    p.logits = floats(w, T * E, 3);
    p.bias = form & 4 ? floats(w, E, 0.1) : NULL;
    p.scores = floats(w, T * E, 0);
    p.lse = floats(w, T, 0);
    p.topk = ints(w, T * K, 0, 1);
    p.weight = floats(w, T * K, 0);
    p.margin = form & 2 ? floats(w, T, 0) : NULL;
    w->be->router(w->s, &p);
    show_floats(w, "router scores", p.scores, T * E);
    show_floats(w, "router lse", p.lse, T);
    show_ints(w, "router topk", p.topk, T * K);
    show_floats(w, "router weight", p.weight, T * K);
    if (p.margin)
        show_floats(w, "router margin", p.margin, T);
    float *prob = floats(w, E, 1), *count = floats(w, E, 1), *z = floats(w, 1, 1);
    w->be->router_stats(w->s, &OP(router_stats, .tokens = T, .experts = E, .top_k = K, .sigmoid = form & 1,
                                  .scores = p.scores, .lse = p.lse, .topk = p.topk, .prob = prob,
                                  .count = count, .z = z));
    show_as(w, "router_stats prob", prob, E, F32, 1e-5);
    show_as(w, "router_stats count", count, E, F32, 0);
    show_as(w, "router_stats z", z, 1, F32, 1e-5);
    r->p = p;
}

/* Fills in rows, position and source. */
static void sort_by_expert(struct world *w, struct route *r, int64_t capacity)
{
    int64_t T = r->T, E = r->E, K = r->K;
    int32_t *keep = ints(w, T * K, 0, 1), *sent = ints(w, E, 0, 1), *slot_of = ints(w, E, 0, 1);
    int32_t *host = xmalloc((size_t)E * sizeof *host);
    float *dropped = floats(w, 1, 1);
    r->position = ints(w, T * K, 0, 1);
    r->source = ints(w, T * K, 0, 1);
    r->first = ints(w, E + 1, 0, 1);
    w->be->capacity(w->s, &OP(capacity, .tokens = T, .experts = E, .top_k = K, .capacity = capacity,
                              .by_prob = r->form & 1, .topk = r->p.topk, .weight = r->p.weight, .keep = keep,
                              .dropped = dropped));
    show_ints(w, "capacity keep", keep, T * K);
    show_as(w, "capacity dropped", dropped, 1, F32, 0);
    for (int64_t e = 0; e < E; e++)
        host[e] = (int32_t)(E - 1 - e);
    w->be->upload(w->s, slot_of, host, (size_t)E * sizeof *host);
    w->be->sort_choices(w->s,
                        &OP(sort_choices, .tokens = T, .experts = E, .top_k = K, .topk = r->p.topk,
                            .keep = r->form & 2 ? keep : NULL, .slot_of = r->form & 4 ? slot_of : NULL,
                            .count = sent, .first = r->first, .position = r->position, .source = r->source));
    show_ints(w, "sort_choices count", sent, E);
    show_ints(w, "sort_choices first", r->first, E + 1);
    show_ints(w, "sort_choices position", r->position, T * K);
    show_ints(w, "sort_choices source", r->source, T * K);
    assert_int_equal(w->be->download(w->s, host, sent, (size_t)E * sizeof *host), 0);
    for (int64_t e = 0; e < E; e++)
        r->rows += host[e];
    free(host);
}

/* To the experts and back, more rows being reserved than come. `wide`: rows with room, and weights in it. */
static void move_rows(struct world *w, const struct route *r, int64_t width, bool wide)
{
    int64_t T = r->T, K = r->K, E = r->E, rows = r->rows + 5, pad = wide ? 8 : 0, ld = width + pad;
    int64_t ldw = wide ? ld * (int64_t)type_bytes(w->type) / 4 : 1;
    wide = wide && ld * (int64_t)type_bytes(w->type) % 4 == 0;
    ldw = wide ? ldw : 1;
    void *x = act(w, T * width), *y = act(w, rows * ld), *back = act(w, T * width);
    float *apart = floats(w, rows, 1), *weight_back = floats(w, T * K, 1);
    float *sent = wide ? (float *)((char *)y + ld * (int64_t)type_bytes(w->type)) - 1 : apart;
    w->be->permute(w->s, &OP(permute, .tokens = T, .rows = rows, .width = width, .top_k = K,
                             .count = r->first + E, .x = x, .source = r->source, .y = y, .ldy = ld,
                             .weight_in = r->p.weight, .weight_out = sent, .ldw = ldw, .type = w->type));
    if (wide)
        show_floats(w, "permute with weights", y, r->rows * ldw);
    else
        show(w, "permute", y, rows * ld);
    show_floats(w, "permute weight", apart, rows);
    w->be->unpermute(w->s, &OP(unpermute, .tokens = T, .rows = rows, .width = width, .top_k = K, .x = y,
                               .ldx = ld, .position = r->position, .y = back, .weight_in = sent, .ldw = ldw,
                               .weight_out = weight_back, .type = w->type));
    show(w, "unpermute", back, T * width);
    show_floats(w, "unpermute weight", weight_back, T * K);
}

static void choose_backward(struct world *w, const struct route *r)
{
    bool aux = r->form & 4, in_place = r->form & 8;
    float *d_weight = floats(w, r->T * r->K, 1), *d_prob = aux ? floats(w, r->E, 1) : NULL;
    float *dlogits = in_place ? r->p.scores : floats(w, r->T * r->E, 1);
    w->be->router_backward(w->s, &OP(router_backward, .fwd = r->p, .d_weight = d_weight, .aux = d_prob,
                                     .z = aux ? 0.25f : 0, .dlogits = dlogits));
    show_floats(w, "router_backward", dlogits, r->T * r->E);
}

static void route_one(struct world *w, int64_t T, int64_t E, int64_t K, int form, int64_t capacity,
                      int64_t width)
{
    struct route r = {.T = T, .E = E, .K = K, .form = form};
    choose_experts(w, &r);
    sort_by_expert(w, &r, capacity);
    move_rows(w, &r, width, false);
    move_rows(w, &r, width, true);
    choose_backward(w, &r);
    drop(w);
}

static void case_route(struct world *w)
{
    for (int form = 0; form < 16; form++) {
        bool few = form % 5 == 0; /* each bit with and without the others */
        if (w->type == BF16 && !few)
            continue; /* it shows in the rows alone */
        route_one(w, 0, 4, 2, form, 3, 8);
        route_one(w, 1, 1, 1, form, 3, 1);
        route_one(w, 17, 8, 2, form, 3, 17);
        route_one(w, 130, 64, 6, form, 9, 130);
        route_one(w, 65, 3, 3, form, 65, 1100);
        if (few)
            route_one(w, 700, 16, 4, form, 0, 32);
    }
    route_one(w, 1100, 5, 1, 1, 300, 3); /* so many that each block of the statistics has several turns */
}

/* Rows of a table `arrived` [sources,experts], of which [first, first+rows) come: to the experts and back. The
 * wire's rows are numbered, so that a row in the wrong place shows. */
static void arrive_one(struct world *w, const int32_t *table, int64_t sources, int64_t experts, int64_t first,
                       int64_t rows, int64_t block)
{
    enum { WIDTH = 5, LD = 8 };
    int64_t segments = sources * experts, room = block ? sources * block : rows;
    int64_t ldw = LD * (int64_t)type_bytes(w->type) / 4;
    int32_t *arrived = device(w, table, (size_t)segments * sizeof *arrived);
    int32_t *row = ints(w, experts + 1, 0, 1), *to = ints(w, segments + 1, 0, 1),
            *from = ints(w, segments + 1, 0, 1);
    w->be->arrivals(w->s, &OP(arrivals, .sources = sources, .experts = experts, .first = first, .rows = rows,
                              .block = block, .arrived = arrived, .row = row, .to = to, .from = from));
    show_ints(w, "arrivals row", row, experts + 1);
    show_ints(w, "arrivals to", to, segments + 1);
    show_ints(w, "arrivals from", from, segments);
    void *wire = act(w, room * LD), *grouped = act(w, rows * WIDTH);
    float *weight = floats(w, rows, 1), *end = (float *)((char *)wire + LD * type_bytes(w->type)) - 1;
    struct regroup op = OP(regroup, .segments = segments, .rows = rows, .wire_rows = room, .width = WIDTH,
                           .to = to, .from = from, .grouped = grouped, .weight = weight, .wire = wire, .ld = LD,
                           .wire_weight = end, .ldw = ldw, .type = w->type);
    w->be->regroup(w->s, &op);
    show(w, "regroup", grouped, rows * WIDTH);
    op.back = true;
    op.grouped = act(w, rows * WIDTH);
    op.weight = floats(w, rows, 1);
    w->be->regroup(w->s, &op);
    op.back = false;
    op.grouped = grouped;
    op.weight = weight;
    w->be->regroup(w->s, &op);
    show(w, "regroup back", grouped, rows * WIDTH);
    show_floats(w, "regroup back weight", weight, rows);
    op.weight = NULL;
    w->be->regroup(w->s, &op);
    drop(w);
}

static void case_arrivals(struct world *w)
{
    static const int32_t few[] = {1, 2, 2, 0}, none[6] = {0}, one_expert[] = {0, 9, 0, 0, 33, 0},
                         many[] = {5, 0, 7, 1, 0, 0, 300, 2, 4, 4, 4, 4};
    arrive_one(w, few, 2, 2, 0, 5, 0);
    arrive_one(w, few, 2, 2, 0, 9, 0); /* more reserved than come */
    arrive_one(w, few, 2, 2, 0, 4, 0); /* two passes */
    arrive_one(w, few, 2, 2, 4, 4, 0);
    arrive_one(w, few, 2, 2, 0, 6, 3); /* blocks with room */
    arrive_one(w, none, 2, 3, 0, 4, 0);
    arrive_one(w, none, 3, 2, 0, 0, 0);
    arrive_one(w, one_expert, 2, 3, 0, 42, 0);
    arrive_one(w, one_expert, 2, 3, 20, 10, 0);
    for (int64_t first = 0; first < 400; first += 90)
        arrive_one(w, many, 3, 4, first, 90, 0);
    arrive_one(w, many, 3, 4, 0, 940, 310);
}

/* What the header's example says, of the reference. */
static void test_example(void **state)
{
    const struct backend *ref = backend_open("ref", 0, 1);
    int32_t arrived[] = {1, 2, 2, 0}, row[3], to[5], from[5];
    ref->arrivals(NULL, &OP(arrivals, .sources = 2, .experts = 2, .rows = 5, .arrived = arrived, .row = row,
                            .to = to, .from = from));
    assert_memory_equal(row, ((int32_t[]){0, 3, 5}), sizeof row);
    assert_memory_equal(to, ((int32_t[]){0, 1, 3, 5, 5}), sizeof to);
    assert_memory_equal(from, ((int32_t[]){0, 3, 1, 5}), 4 * sizeof *from);
    float wire[5] = {10, 11, 12, 20, 21}, grouped[5], again[5];
    struct regroup op = OP(regroup, .segments = 4, .rows = 5, .wire_rows = 5, .width = 1, .to = to,
                           .from = from, .grouped = grouped, .wire = wire, .ld = 1, .type = F32);
    ref->regroup(NULL, &op);
    assert_memory_equal(grouped, ((float[]){10, 20, 21, 11, 12}), sizeof grouped);
    op.back = true;
    op.wire = again;
    ref->regroup(NULL, &op);
    assert_memory_equal(again, wire, sizeof wire);
}

/* All tokens to one expert, equal weights: ties go to the lower index. */
static void case_one_expert(struct world *w)
{
    enum { T = 37, E = 4, K = 1 };
    struct router p = {.tokens = T, .experts = E, .top_k = K, .scale = 1};
    p.logits = floats(w, T * E, 0);
    p.scores = floats(w, T * E, 0);
    p.lse = floats(w, T, 0);
    p.topk = ints(w, T, 3, 4);
    p.weight = floats(w, T, 0);
    p.margin = floats(w, T, 1);
    w->be->router(w->s, &p);
    show_ints(w, "tied topk", p.topk, T);
    show_as(w, "tied margin", p.margin, T, F32, 0);
    int32_t *keep = ints(w, T, 0, 1);
    float *dropped = floats(w, 1, 1);
    for (int by_prob = 0; by_prob < 2; by_prob++) {
        w->be->capacity(w->s,
                        &OP(capacity, .tokens = T, .experts = E, .top_k = K, .capacity = 5, .by_prob = by_prob,
                            .topk = p.topk, .weight = p.weight, .keep = keep, .dropped = dropped));
        show_ints(w, "tied keep", keep, T);
    }
}

/* Numbers of few values, so that many are equal; `odd` in place of every eleventh (0: none). */
static float *steps(struct world *w, int64_t count, float odd)
{
    float *host = xmalloc((size_t)(count + 1) * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        host[i] = odd != 0 && i % 11 == 7 ? odd : floorf(4 * (float)uniform(w)) / 4;
    float *p = device(w, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

/* Ties everywhere, and numbers that are none: within groups and between them, of biases and of scores. */
static void case_ties(struct world *w)
{
    static const float odd[] = {0, NAN, INFINITY, -INFINITY};
    enum { T = 40, E = 16, K = 5 };
    for (int form = 0; form < 16; form++) {
        struct router p = OP(router, .tokens = T, .experts = E, .top_k = K, .sigmoid = form & 1, .scale = 1,
                             .groups = form & 2 ? 8 : 0, .top_groups = form & 2 ? 3 : 0);
        p.logits = steps(w, T * E, odd[form / 4]);
        p.bias = form & 1 ? steps(w, E, 0) : NULL;
        p.scores = floats(w, T * E, 0);
        p.lse = floats(w, T, 0);
        p.topk = ints(w, T * K, 0, 1);
        p.weight = floats(w, T * K, 0);
        w->be->router(w->s, &p);
        show_ints(w, "ties topk", p.topk, T * K);
        show_floats(w, "ties weight", p.weight, T * K);
        drop(w);
    }
}

/* What each expert keeps, with many choices of the same weight and more experts than places: token t chooses
 * experts in a row, from one that is 0 for half of them. */
static void capacity_one(struct world *w, int64_t T, int64_t E, int64_t K, int64_t seq, float odd)
{
    int32_t *host = xmalloc((size_t)(T * K + 1) * sizeof *host);
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < K; k++)
            host[t * K + k] = (int32_t)(((t % 2 ? 0 : t * 5) + k) % E);
    int32_t *topk = device(w, host, (size_t)(T * K) * sizeof *host), *keep = ints(w, T * K, 0, 1);
    float *weight = steps(w, T * K, odd), *dropped = floats(w, 1, 1);
    for (int64_t capacity = 0; capacity <= T; capacity = 2 * capacity + 1)
        for (int by_prob = 0; by_prob < 2; by_prob++) {
            w->be->capacity(w->s, &OP(capacity, .tokens = T, .experts = E, .top_k = K, .capacity = capacity,
                                      .by_prob = by_prob, .topk = topk, .weight = weight, .keep = keep,
                                      .dropped = dropped, .seq = seq));
            show_ints(w, by_prob ? "capacity by weight" : "capacity by position", keep, T * K);
            show_as(w, "capacity dropped", dropped, 1, F32, 0);
        }
    free(host);
    drop(w);
}

static void case_capacity(struct world *w)
{
    if (w->type == BF16)
        return; /* it has no type */
    capacity_one(w, 0, 3, 1, 0, 0);
    capacity_one(w, 1, 1, 1, 1, 0);
    capacity_one(w, 60, 5, 3, 12, 0);
    capacity_one(w, 60, 5, 3, 0, NAN);
    capacity_one(w, 300, 40, 8, 100, INFINITY);
    capacity_one(w, 700, 2, 2, 350, 0);
}

CASE(route)
CASE(ties)
CASE(capacity)
CASE(one_expert)
CASE(arrivals)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route),      cmocka_unit_test(test_ties),     cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_one_expert), cmocka_unit_test(test_arrivals), cmocka_unit_test(test_example),
    };
    return RUN_CASES(argc, argv, tests);
}
