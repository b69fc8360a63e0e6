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
    w->be->capacity(w->s, &OP(capacity, .tokens = T, .experts = E, .top_k = K, .capacity = capacity,
                              .by_prob = r->form & 1, .topk = r->p.topk, .weight = r->p.weight, .keep = keep,
                              .dropped = dropped));
    show_ints(w, "capacity keep", keep, T * K);
    show_as(w, "capacity dropped", dropped, 1, F32, 0);
    for (int64_t e = 0; e < E; e++)
        host[e] = (int32_t)(E - 1 - e);
    w->be->upload(w->s, slot_of, host, (size_t)E * sizeof *host);
    w->be->sort_choices(w->s, &OP(sort_choices, .tokens = T, .experts = E, .top_k = K, .topk = r->p.topk,
                                  .keep = r->form & 2 ? keep : NULL, .slot_of = r->form & 4 ? slot_of : NULL,
                                  .count = sent, .position = r->position, .source = r->source));
    show_ints(w, "sort_choices count", sent, E);
    show_ints(w, "sort_choices position", r->position, T * K);
    show_ints(w, "sort_choices source", r->source, T * K);
    assert_int_equal(w->be->download(w->s, host, sent, (size_t)E * sizeof *host), 0);
    for (int64_t e = 0; e < E; e++)
        r->rows += host[e];
    free(host);
}

/* To the experts, and back in two parts. */
static void move_rows(struct world *w, const struct route *r, int64_t width)
{
    int64_t T = r->T, K = r->K, rows = r->rows;
    void *x = act(w, T * width), *y = act(w, rows * width), *back = act(w, T * width);
    float *sent_weight = floats(w, rows, 1), *weight_back = floats(w, T * K, 1);
    w->be->permute(w->s, &OP(permute, .rows = rows, .width = width, .top_k = K, .x = x, .source = r->source,
                             .y = y, .weight_in = r->p.weight, .weight_out = sent_weight, .type = w->type));
    show(w, "permute", y, rows * width);
    show_floats(w, "permute weight", sent_weight, rows);
    for (int part = 0; part < 2; part++) {
        int64_t first = part ? rows / 3 : 0, n = part ? rows - rows / 3 : rows / 3;
        void *from = (char *)y + first * width * (int64_t)type_bytes(w->type);
        w->be->unpermute(w->s,
                         &OP(unpermute, .tokens = T, .width = width, .top_k = K, .first = first, .rows = n,
                             .x = from, .position = r->position, .y = back, .accumulate = part,
                             .weight_in = sent_weight + first, .weight_out = weight_back, .type = w->type));
    }
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
    move_rows(w, &r, width);
    choose_backward(w, &r);
    drop(w);
}

static void case_route(struct world *w)
{
    for (int form = 0; form < 16; form++) {
        route_one(w, 0, 4, 2, form, 3, 8);
        route_one(w, 1, 1, 1, form, 3, 1);
        route_one(w, 17, 8, 2, form, 3, 17);
        route_one(w, 130, 64, 6, form, 9, 130);
        route_one(w, 65, 3, 3, form, 65, 1100);
        route_one(w, 700, 16, 4, form, 0, 32);
    }
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

CASE(route)
CASE(one_expert)

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_one_expert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
