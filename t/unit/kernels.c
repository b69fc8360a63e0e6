/* SPDX-License-Identifier: MIT */
/* Every operation of every backend against `ref` over awkward shapes, and `ref` against finite differences.
 * A case is a function that builds its inputs, runs operations and shows results; it runs first on ref, which
 * records what is shown, and then on each backend, which is compared. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend.h"
#include "base/error.h"
#include "base/num.h"
#include "number.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

struct world {
    const struct backend *be;
    struct stream *s;
    bool record;
    uint64_t seed;
    enum type type;
    struct {
        void *p;
        size_t bytes;
    } block[64];
    int blocks;
    double *shown;
    int64_t count, at, room;
};

static double uniform(struct world *w) /* in [-1, 1) */
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(w->seed >> 33) * 0x1p-30 - 1;
}

static void *device(struct world *w, const void *host, size_t bytes)
{
    void *p = w->be->alloc(bytes);
    assert_non_null(p);
    assert_true(w->blocks < (int)COUNT(w->block));
    w->block[w->blocks].p = p;
    w->block[w->blocks++].bytes = bytes;
    if (host)
        w->be->upload(w->s, p, host, bytes);
    return p;
}

static void *values(struct world *w, int64_t count, enum type type, double scale)
{
    void *host = xmalloc((size_t)(count + 1) * 4);
    for (int64_t i = 0; i < count; i++)
        store(host, i, type, (float)(scale * uniform(w)));
    void *p = device(w, host, (size_t)count * type_bytes(type));
    free(host);
    return p;
}

static void *act(struct world *w, int64_t count)
{
    return values(w, count, w->type, 1);
}

static float *floats(struct world *w, int64_t count, double scale)
{
    return values(w, count, F32, scale);
}

static int32_t *ints(struct world *w, int64_t count, int32_t from, int32_t to)
{
    int32_t *host = xmalloc((size_t)(count + 1) * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        host[i] = from + (int32_t)((uniform(w) + 1) / 2 * (to - from));
    int32_t *p = device(w, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

static void one(struct world *w, const char *what, int64_t i, double value, double tol)
{
    if (w->record) {
        if (w->count == w->room)
            w->shown = xrealloc(w->shown, (size_t)(w->room = 2 * w->room + 1024), sizeof *w->shown);
        w->shown[w->count++] = value;
        return;
    }
    assert_true(w->at < w->count);
    double want = w->shown[w->at++], error_size = fabs(value - want), allowed = tol * (1 + fabs(want));
    if (value == want || (isnan(value) && isnan(want)))
        return;
    if (!(error_size <= allowed))
        fail_msg("%s %s %s: element %lld is %.9g, not %.9g", w->be->name, w->type == F32 ? "f32" : "bf16", what,
                 (long long)i, value, want);
}

static void show_as(struct world *w, const char *what, const void *p, int64_t count, enum type type, double tol)
{
    void *host = xmalloc((size_t)(count + 1) * 4);
    assert_int_equal(w->be->download(w->s, host, p, (size_t)count * type_bytes(type)), 0);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, load(host, i, type), tol);
    free(host);
}

static void show(struct world *w, const char *what, const void *p, int64_t count)
{
    show_as(w, what, p, count, w->type, w->type == F32 ? 2e-5 : 1.0 / 128);
}

static void show_floats(struct world *w, const char *what, const float *p, int64_t count)
{
    show_as(w, what, p, count, F32, 5e-5);
}

static void show_ints(struct world *w, const char *what, const int32_t *p, int64_t count)
{
    int32_t *host = xmalloc((size_t)(count + 1) * sizeof *host);
    assert_int_equal(w->be->download(w->s, host, p, (size_t)count * sizeof *host), 0);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, host[i], 0);
    free(host);
}

static void show_doubles(struct world *w, const char *what, const double *p, int64_t count)
{
    double host[4];
    assert_int_equal(w->be->download(w->s, host, p, (size_t)count * sizeof *host), 0);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, host[i], 1e-10);
}

typedef void act_case(struct world *);

static void play(struct world *w, const char *name, act_case *run, enum type type)
{
    w->be = backend_open(name, 0, 2);
    assert_non_null(w->be);
    w->type = type;
    w->seed = 12345;
    w->at = w->blocks = 0;
    w->s = w->be->stream_new();
    run(w);
    assert_int_equal(w->be->sync(w->s), 0);
    for (int i = 0; i < w->blocks; i++)
        w->be->free(w->block[i].p, w->block[i].bytes);
    w->blocks = 0;
    w->be->stream_free(w->s);
}

static void compare(act_case *run)
{
    const struct backend_kind *kind;
    for (enum type type = F32; type <= BF16; type++) {
        struct world w = {.record = true};
        play(&w, "ref", run, type);
        w.record = false;
        for (int i = 0; (kind = backend_kind(i)); i++) {
            play(&w, kind->name, run, type);
            assert_int_equal(w.at, w.count);
        }
        free(w.shown);
    }
}

/* Frees what a case has allocated so far. */
static void drop(struct world *w)
{
    for (int i = 0; i < w->blocks; i++)
        w->be->free(w->block[i].p, w->block[i].bytes);
    w->blocks = 0;
}

/* ---- cases ---- */

static void matmul_one(struct world *w, int64_t m, int64_t n, int64_t k, int form, enum type to, int pad)
{
    bool ta = form & 1, tb = form & 2;
    int64_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
    void *a = act(w, (ta ? k : m) * lda), *b = act(w, (tb ? n : k) * ldb), *c = values(w, m * ldc, to, 1);
    struct matmul p = {m, n, k, ta, tb, a, lda, b, ldb, c, ldc, form & 4 ? 1 : 0, w->type, to};
    w->be->matmul(w->s, &p);
    show_as(w, "matmul", c, m * ldc, to, to == F32 ? 1e-4 : 1.0 / 64);
    drop(w);
}

static void case_matmul(struct world *w)
{
    static const int64_t shapes[][3] = {
        {0, 5, 3},     {5, 0, 3},      {4, 6, 0},      {1, 1, 1},    {3, 1, 17},   {1, 8, 64},    {17, 3, 130},
        {65, 130, 17}, {130, 65, 300}, {300, 260, 65}, {600, 8, 33}, {3, 700, 40}, {33, 40, 1100}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int form = 0; form < 8; form++)
            for (enum type to = F32; to <= w->type; to++)
                matmul_one(w, shapes[i][0], shapes[i][1], shapes[i][2], form, to, form % 3);
}

static void grouped_one(struct world *w, const int64_t *row, const int *which, int segments, int weights)
{
    int64_t rows = row[segments], n = 66, k = 35, ldx = k + 3, ldy = n + 1, stride = n * k + 5;
    for (int kind = GROUPED_FORWARD; kind <= GROUPED_WEIGHT; kind++) {
        enum type wt = kind == GROUPED_WEIGHT ? F32 : w->type;
        void *x = act(w, rows * ldx), *y = act(w, rows * ldy), *m = values(w, weights * stride, wt, 1);
        struct grouped_matmul p = {kind, segments, row, which, n, k, x, ldx, y, ldy, m, stride, w->type};
        w->be->grouped_matmul(w->s, &p);
        if (kind == GROUPED_FORWARD)
            show(w, "grouped forward", y, rows * ldy);
        else if (kind == GROUPED_INPUT)
            show(w, "grouped input", x, rows * ldx);
        else
            show_as(w, "grouped weight", m, weights * stride, F32, 1e-4);
        drop(w);
    }
}

static void case_grouped(struct world *w)
{
    grouped_one(w, (int64_t[]){0}, NULL, 0, 2);
    grouped_one(w, (int64_t[]){0, 0, 0}, (int[]){0, 1}, 2, 2);
    grouped_one(w, (int64_t[]){0, 1, 4, 4, 21, 86, 216}, (int[]){5, 4, 3, 2, 1, 0}, 6, 6);
    grouped_one(w, (int64_t[]){0, 0, 300, 300}, (int[]){0, 1, 2}, 3, 3);
    grouped_one(w, (int64_t[]){0, 7, 24, 24, 150, 151}, (int[]){1, 0, 1, 0, 1}, 5, 2);
    grouped_one(w, (int64_t[]){0, 3, 700}, (int[]){0, 0}, 2, 1);
}

static void norm_one(struct world *w, int64_t rows, int64_t heads, int64_t width, float clip, bool partial,
                     bool in_place)
{
    int64_t wide = heads * width, ldx = wide + 3, ldy = wide + (in_place ? 3 : 1), full = 2 * width;
    void *x = act(w, rows * ldx), *weight = act(w, width), *y = in_place ? x : act(w, rows * ldy);
    void *keep = device(w, NULL, (size_t)(rows * ldx) * type_bytes(w->type));
    w->be->copy(w->s, keep, x, (size_t)(rows * ldx) * type_bytes(w->type));
    float *sumsq = floats(w, rows, 0), *dot = floats(w, rows, 0), *dw = floats(w, width, 1);
    void *dy = act(w, rows * ldx), *dx = in_place ? dy : act(w, rows * ldx);
    if (partial) {
        w->be->row_sums(w->s, &(struct row_sums){rows, width, x, ldx, sumsq, .type = w->type});
        w->be->row_sums(w->s, &(struct row_sums){rows, width, x, ldx, NULL, dy, ldx, weight, dot, sumsq, full,
                                                 1e-5f, clip, w->type});
        show_floats(w, "row_sums sumsq", sumsq, rows);
        show_floats(w, "row_sums dot", dot, rows);
    }
    struct rmsnorm p = {rows, heads,  width, x, ldx, weight, y, ldy, 1e-5f, clip, partial ? sumsq : NULL,
                        full, w->type};
    w->be->rmsnorm(w->s, &p);
    show(w, "rmsnorm", y, rows * ldy);
    struct rmsnorm_backward b = {rows,
                                 heads,
                                 width,
                                 keep,
                                 ldx,
                                 weight,
                                 dy,
                                 ldx,
                                 dx,
                                 ldx,
                                 dw,
                                 !in_place,
                                 1e-5f,
                                 clip,
                                 partial ? sumsq : NULL,
                                 partial ? dot : NULL,
                                 full,
                                 w->type};
    w->be->rmsnorm_backward(w->s, &b);
    show(w, "rmsnorm_backward dx", dx, rows * ldx);
    show_as(w, "rmsnorm_backward dw", dw, width, F32, 1e-3);
    drop(w);
}

static void case_norm(struct world *w)
{
    static const int64_t shapes[][3] = {{0, 1, 8},   {1, 1, 1},     {3, 2, 17},
                                        {65, 3, 16}, {17, 1, 1300}, {130, 1, 512}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int form = 0; form < 8; form++)
            if (!(form & 1) || shapes[i][1] == 1)
                norm_one(w, shapes[i][0], shapes[i][1], shapes[i][2], form & 2 ? 0.437f : 0, form & 1,
                         form & 4);
}

static void attention_one(struct world *w, int64_t sequences, int64_t seq, int64_t heads, int64_t kv,
                          int64_t dim)
{
    int64_t rows = sequences * seq, ldq = heads * dim + 5, ldk = kv * dim + 2, ldv = kv * dim,
            ldo = heads * dim + 1;
    void *q = values(w, rows * ldq, w->type, 2), *k = values(w, rows * ldk, w->type, 2),
         *v = act(w, rows * ldv);
    void *o = act(w, rows * ldo), *d_o = act(w, rows * ldo);
    void *dq = act(w, rows * ldq), *dk = act(w, rows * ldk), *dv = act(w, rows * ldv);
    float *lse = floats(w, heads * rows, 0), *delta = floats(w, heads * rows, 0);
    struct attention p = {sequences, seq, heads, kv, dim, q, k, v, ldq, ldk, ldv, o, ldo, lse, 0.31f, w->type};
    w->be->attention(w->s, &p);
    show(w, "attention", o, rows * ldo);
    show_floats(w, "attention lse", lse, heads * rows);
    struct attention_backward b = {p, d_o, ldo, dq, dk, dv, delta};
    w->be->attention_backward(w->s, &b);
    double tol = w->type == F32 ? 2e-4 : 1.0 / 40; /* delta comes from o as rounded by each */
    show_as(w, "attention dq", dq, rows * ldq, w->type, tol);
    show_as(w, "attention dk", dk, rows * ldk, w->type, tol);
    show_as(w, "attention dv", dv, rows * ldv, w->type, tol);
    drop(w);
}

static void case_attention(struct world *w)
{
    attention_one(w, 0, 7, 2, 1, 16);
    attention_one(w, 2, 1, 2, 2, 16);
    attention_one(w, 3, 7, 4, 2, 16);
    attention_one(w, 1, 17, 3, 1, 64);
    attention_one(w, 2, 130, 2, 2, 64);
    attention_one(w, 1, 256, 2, 1, 128);
    attention_one(w, 1, 700, 2, 1, 8);
}

static void case_rope(struct world *w)
{
    static const int64_t shapes[][5] = {
        {0, 4, 1, 8, 8}, {5, 5, 3, 16, 16}, {130, 65, 8, 64, 64}, {34, 17, 2, 16, 6}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int inverse = 0; inverse < 2; inverse++) {
            const int64_t *h = shapes[i];
            int64_t ld = h[2] * h[3] + 3;
            void *x = act(w, h[0] * ld);
            float *angles = floats(w, h[1] * h[4], 1);
            w->be->rope(w->s, &(struct rope){h[0], h[1], h[2], h[3], h[4], x, ld, angles, inverse, w->type});
            show(w, "rope", x, h[0] * ld);
            drop(w);
        }
}

static void case_swiglu(struct world *w)
{
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {17, 1500}, {130, 512}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int weighted = 0; weighted < 2; weighted++)
            for (int in_place = 0; in_place < 2; in_place++) {
                int64_t rows = shapes[i][0], width = shapes[i][1];
                void *gate_up = values(w, rows * 2 * width, w->type, 8), *y = act(w, rows * width);
                void *dy = act(w, rows * width), *d = in_place ? gate_up : act(w, rows * 2 * width);
                float *weight = weighted ? floats(w, rows, 1) : NULL,
                      *dw = weighted ? floats(w, rows, 0) : NULL;
                w->be->swiglu(w->s, &(struct swiglu){rows, width, gate_up, weight, y, w->type});
                show(w, "swiglu", y, rows * width);
                w->be->swiglu_backward(
                    w->s, &(struct swiglu_backward){rows, width, gate_up, weight, dy, d, dw, w->type});
                show(w, "swiglu_backward", d, rows * 2 * width);
                if (dw)
                    show_as(w, "swiglu_backward weight", dw, rows, F32, 5e-4);
                drop(w);
            }
}

static void case_elementwise(struct world *w)
{
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {17, 1500}, {260, 130}};
    enum type t = w->type;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        int64_t rows = shapes[i][0], width = shapes[i][1], count = rows * width, ld = width + 3;
        void *a = act(w, count), *b = act(w, 3 * count), *y = act(w, count), *x = act(w, rows * ld),
             *z = act(w, rows * ld);
        void *bias = act(w, width);
        float *db = floats(w, width, 1), *g = floats(w, rows, 4), *dg = floats(w, rows, 0);
        w->be->add(w->s, &(struct add){count, a, b, 0, y, t});
        show(w, "add", y, count);
        w->be->add(w->s, &(struct add){count, a, b, 3, a, t});
        show(w, "add parts in place", a, count);
        w->be->add(w->s, &(struct add){count, NULL, b, 3, y, t});
        show(w, "add parts", y, count);
        w->be->add(w->s, &(struct add){count, a, b, 1, b, t});
        show(w, "add into b", b, count);
        w->be->bias(w->s, &(struct bias){rows, width, x, ld, bias, t});
        show(w, "bias", x, rows * ld);
        w->be->bias_backward(w->s, &(struct bias_backward){rows, width, x, ld, db, t});
        show_floats(w, "bias_backward", db, width);
        w->be->clamp(w->s, &(struct clamp){rows, width, x, ld, 0.5f, t});
        show(w, "clamp", x, rows * ld);
        w->be->clamp_backward(w->s, &(struct clamp_backward){rows, width, x, ld, z, ld, 0.5f, t});
        show(w, "clamp_backward", z, rows * ld);
        w->be->copy_rows(w->s, &(struct copy_rows){rows, width, x, ld, y, width, t});
        show(w, "copy_rows", y, count);
        w->be->row_gate(w->s, &(struct row_gate){rows, width, a, g, y, t});
        show(w, "row_gate", y, count);
        w->be->row_gate_backward(w->s, &(struct row_gate_backward){rows, width, a, y, g, y, dg, t});
        show(w, "row_gate_backward", y, count);
        show_as(w, "row_gate_backward gate", dg, rows, F32, 1e-3);
        w->be->row_gate(w->s, &(struct row_gate){rows, width, a, g, a, t});
        show(w, "row_gate in place", a, count);
        for (enum type to = F32; to <= BF16; to++) {
            void *c = values(w, count, to, 1);
            w->be->convert(w->s, &(struct convert){count, act(w, count), c, t, to, 0.3f});
            show_as(w, "convert", c, count, to, 0);
        }
        drop(w);
    }
}

/* Router to permutation and back, as a layer does it. */
static void route_one(struct world *w, int64_t T, int64_t E, int64_t K, int form, int64_t capacity,
                      int64_t width)
{
    bool sigmoid = form & 1, renormalise = form & 2, aux = form & 4;
    struct router p = {T, E, K, sigmoid, renormalise, 1.5f, E % 4 || !(form & 8) ? 0 : 4, 2, .topk = NULL};
    p.logits = floats(w, T * E, 3);
    p.bias = aux ? floats(w, E, 0.1) : NULL;
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
    w->be->router_stats(w->s,
                        &(struct router_stats){T, E, K, sigmoid, p.scores, p.lse, p.topk, prob, count, z});
    show_as(w, "router_stats prob", prob, E, F32, 1e-5);
    show_as(w, "router_stats count", count, E, F32, 0);
    show_as(w, "router_stats z", z, 1, F32, 1e-5);

    int32_t *keep = ints(w, T * K, 0, 1), *position = ints(w, T * K, 0, 1), *source = ints(w, T * K, 0, 1);
    int32_t *sent = ints(w, E, 0, 1), *slot_of = ints(w, E, 0, 1), *slots = xmalloc((size_t)E * sizeof *slots);
    float *dropped = floats(w, 1, 1);
    w->be->capacity(w->s, &(struct capacity){T, E, K, capacity, form & 1, p.topk, p.weight, keep, dropped});
    show_ints(w, "capacity keep", keep, T * K);
    show_as(w, "capacity dropped", dropped, 1, F32, 0);
    for (int64_t e = 0; e < E; e++)
        slots[e] = (int32_t)(E - 1 - e);
    w->be->upload(w->s, slot_of, slots, (size_t)E * sizeof *slots);
    free(slots);
    w->be->sort_choices(w->s, &(struct sort_choices){T, E, K, p.topk, form & 2 ? keep : NULL,
                                                     form & 4 ? slot_of : NULL, sent, position, source});
    show_ints(w, "sort_choices count", sent, E);
    show_ints(w, "sort_choices position", position, T * K);
    show_ints(w, "sort_choices source", source, T * K);

    int32_t *counts = xmalloc((size_t)E * sizeof *counts);
    int64_t rows = 0;
    assert_int_equal(w->be->download(w->s, counts, sent, (size_t)E * sizeof *counts), 0);
    for (int64_t e = 0; e < E; e++)
        rows += counts[e];
    free(counts);
    void *x = act(w, T * width), *y = act(w, rows * width), *back = act(w, T * width);
    float *sent_weight = floats(w, rows, 1), *weight_back = floats(w, T * K, 1);
    w->be->permute(w->s, &(struct permute){rows, width, K, x, source, y, p.weight, sent_weight, w->type});
    show(w, "permute", y, rows * width);
    show_floats(w, "permute weight", sent_weight, rows);
    for (int part = 0; part < 2; part++) {
        int64_t first = part ? rows / 3 : 0, n = part ? rows - rows / 3 : rows / 3;
        void *from = (char *)y + first * width * (int64_t)type_bytes(w->type);
        w->be->unpermute(w->s, &(struct unpermute){T, width, K, first, n, from, position, back, part,
                                                   sent_weight + first, weight_back, w->type});
    }
    show(w, "unpermute", back, T * width);
    show_floats(w, "unpermute weight", weight_back, T * K);

    float *d_weight = floats(w, T * K, 1), *aux_gradient = aux ? floats(w, E, 1) : NULL;
    bool in_place = form & 8;
    float *dlogits = in_place ? p.scores : floats(w, T * E, 1);
    w->be->router_backward(w->s,
                           &(struct router_backward){p, d_weight, aux_gradient, aux ? 0.25f : 0, dlogits});
    show_floats(w, "router_backward", dlogits, T * E);
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
        w->be->capacity(w->s, &(struct capacity){T, E, K, 5, by_prob, p.topk, p.weight, keep, dropped});
        show_ints(w, "tied keep", keep, T);
    }
}

static void case_loss(struct world *w)
{
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {17, 3000}, {130, 65}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int parts = 1; parts < 4; parts += 2)
            for (int in_place = 0; in_place < 2; in_place++) {
                int64_t rows = shapes[i][0], width = shapes[i][1], vocab = parts * width;
                int32_t *target = ints(w, rows, 0, (int32_t)vocab);
                float *logits[3], *stats = floats(w, parts * rows * 3, 1), *loss = floats(w, rows, 1);
                for (int part = 0; part < parts; part++) {
                    logits[part] = floats(w, rows * width, 30);
                    w->be->softmax_stats(w->s, &(struct softmax_stats){rows, width, part * width, logits[part],
                                                                       target, stats + part * rows * 3});
                }
                show_as(w, "softmax_stats", stats, parts * rows * 3, F32, 2e-5);
                for (int part = 0; part < parts; part++) {
                    bool same = in_place && w->type == F32;
                    void *d = same ? logits[part] : act(w, rows * width);
                    struct cross_entropy p = {rows,   width, part * width, parts, logits[part], stats,
                                              target, 0.5f,  loss,         d,     w->type};
                    w->be->cross_entropy(w->s, &p);
                    show_floats(w, "cross_entropy loss", loss, rows);
                    show(w, "cross_entropy gradient", d, rows * width);
                }
                drop(w);
            }
}

static void case_nan(struct world *w)
{
    enum { ROWS = 3, WIDTH = 40 };
    float host[ROWS * WIDTH] = {0};
    host[WIDTH + 7] = NAN;
    host[2 * WIDTH + 39] = INFINITY;
    float *logits = device(w, host, sizeof host), *stats = floats(w, 3 * ROWS, 1), *loss = floats(w, ROWS, 1);
    int32_t *target = ints(w, ROWS, 0, WIDTH);
    w->be->softmax_stats(w->s, &(struct softmax_stats){ROWS, WIDTH, 0, logits, target, stats});
    w->be->cross_entropy(w->s,
                         &(struct cross_entropy){ROWS, WIDTH, 0, 1, logits, stats, target, 1, loss, NULL, F32});
    float got[ROWS];
    assert_int_equal(w->be->download(w->s, got, loss, sizeof got), 0);
    assert_true(isfinite(got[0]) && isnan(got[1]) && !isfinite(got[2]));
    float weight_host[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        weight_host[i] = 1;
    float *weight = device(w, weight_host, sizeof weight_host), *y = floats(w, ROWS * WIDTH, 1);
    w->be->rmsnorm(w->s,
                   &(struct rmsnorm){ROWS, 1, WIDTH, logits, WIDTH, weight, y, WIDTH, 1e-5f, 1, NULL, 0, F32});
    float norm[ROWS * WIDTH];
    assert_int_equal(w->be->download(w->s, norm, y, sizeof norm), 0);
    assert_true(isfinite(norm[0]) && isnan(norm[WIDTH]) && isnan(norm[WIDTH + 7]));
}

static void case_embedding(struct world *w)
{
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {300, 300}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        int64_t tokens = shapes[i][0], width = shapes[i][1], first = 5, count = 20;
        int32_t *token = ints(w, tokens, 0, 40);
        void *table = act(w, count * width), *y = act(w, tokens * width);
        float *d = floats(w, count * width, 1);
        w->be->embedding(w->s, &(struct embedding){tokens, width, first, count, token, table, y, w->type});
        show_as(w, "embedding", y, tokens * width, w->type, 0);
        w->be->embedding_backward(
            w->s, &(struct embedding_backward){tokens, width, first, count, token, y, d, w->type});
        show_as(w, "embedding_backward", d, count * width, F32, 0);
        drop(w);
    }
}

static void case_optim(struct world *w)
{
    static const int64_t counts[] = {0, 1, 3, 17, 1030, 40000};
    for (size_t i = 0; i < COUNT(counts); i++) {
        int64_t n = counts[i];
        float *master = floats(w, n, 1), *m = floats(w, n, 0.1), *v = floats(w, n, 0), *grad = floats(w, n, 3);
        void *param = act(w, n);
        double *out = device(w, NULL, 2 * sizeof(double));
        w->be->sum_squares(w->s, &(struct sum_squares){n, grad, out});
        w->be->sum(w->s, &(struct sum){n, grad, out + 1});
        show_doubles(w, "sums", out, 2);
        w->be->scale(w->s, &(struct scale){n, grad, 0.7f});
        show_as(w, "scale", grad, n, F32, 0);
        struct adamw p = {n,     master, m,    v,    grad,  param,   1e-2f,  0.9f,
                          0.95f, 1e-8f,  0.1f, 0.5f, 0.19f, 0.0975f, w->type};
        w->be->adamw(w->s, &p);
        p.param = NULL;
        w->be->adamw(w->s, &p);
        show_as(w, "adamw master", master, n, F32, 0);
        show_as(w, "adamw m", m, n, F32, 0);
        show_as(w, "adamw v", v, n, F32, 0);
        show_as(w, "adamw param", param, n, w->type, 0);
        drop(w);
    }
}

static void case_fill(struct world *w)
{
    enum { ROWS = 130, WIDTH = 203, LD = 207 };
    void *x = act(w, ROWS * LD), *part = act(w, ROWS * 11);
    struct fill_normal p = {ROWS, WIDTH, x, LD, 42, 7, WIDTH, 0.5f, 2, w->type};
    w->be->fill_normal(w->s, &p);
    show_as(w, "fill_normal", x, ROWS * LD, w->type, 0);
    p = (struct fill_normal){ROWS, 11, part, 11, 42, 7 + 90, WIDTH, 0.5f, 2, w->type};
    w->be->fill_normal(w->s, &p);
    uint16_t *all = xmalloc(ROWS * LD * 4), *some = xmalloc(ROWS * 11 * 4);
    assert_int_equal(w->be->download(w->s, all, x, ROWS * LD * type_bytes(w->type)), 0);
    assert_int_equal(w->be->download(w->s, some, part, ROWS * 11 * type_bytes(w->type)), 0);
    double sum = 0, squares = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < 11; c++)
            assert_true(load(some, r * 11 + c, w->type) == load(all, r * LD + 90 + c, w->type));
        for (int c = 0; c < WIDTH; c++) {
            double v = load(all, r * LD + c, w->type);
            sum += v;
            squares += v * v;
        }
    }
    double mean = sum / (ROWS * WIDTH), variance = squares / (ROWS * WIDTH) - mean * mean;
    assert_true(fabs(mean - 0.5) < 0.05 && fabs(variance - 4) < 0.15);
    free(all);
    free(some);
}

#define CASE(name)                                                                                             \
    static void test_##name(void **state)                                                                      \
    {                                                                                                          \
        compare(case_##name);                                                                                  \
    }
CASE(matmul)
CASE(grouped)
CASE(norm)
CASE(attention)
CASE(rope)
CASE(swiglu)
CASE(elementwise)
CASE(route)
CASE(one_expert)
CASE(loss)
CASE(nan)
CASE(embedding)
CASE(optim)
CASE(fill)

/* ---- ref against finite differences; ref computes on the host, so plain arrays will do ---- */

typedef double loss_fn(const struct backend *ref, void *op);

static double weighted(const float *x, const float *by, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * by[i];
    return sum;
}

static float *plain(struct world *w, int64_t n, double scale)
{
    float *p = xmalloc((size_t)(n + 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(scale * uniform(w));
    return p;
}

/* d loss/d x[i] by central differences, for some elements i of x, is gradient[i]. */
static void differ(const char *what, const struct backend *ref, loss_fn *loss, void *op, float *x,
                   const float *gradient, int64_t n)
{
    const float step = 0.5e-2f;
    for (int64_t i = 0; i < n; i += 1 + n / 50) {
        float keep = x[i], hi, lo;
        x[i] = hi = keep + step;
        double up = loss(ref, op);
        x[i] = lo = keep - step;
        double down = loss(ref, op), slope = (up - down) / ((double)hi - lo);
        x[i] = keep;
        if (!(fabs(slope - gradient[i]) <= 2e-3 * (1 + fabs(slope))))
            fail_msg("%s: gradient %lld is %g, the slope %g", what, (long long)i, gradient[i], slope);
    }
}

static double norm_loss(const struct backend *ref, void *op)
{
    struct rmsnorm_backward *b = op;
    float *y = xmalloc((size_t)(b->rows * b->heads * b->width) * sizeof *y);
    struct rmsnorm p = {b->rows, b->heads, b->width, b->x, b->ldx, b->w, y, b->heads * b->width,
                        b->eps,  b->clip,  NULL,     0,    F32};
    ref->rmsnorm(NULL, &p);
    double sum = weighted(y, b->dy, b->rows * b->heads * b->width);
    free(y);
    return sum;
}

static void gradient_norm(void **state)
{
    struct world w = {.seed = 7};
    const struct backend *ref = backend_open("ref", 0, 1);
    for (int form = 0; form < 3; form++) {
        enum { ROWS = 5, WIDTH = 12 };
        int64_t heads = form == 1 ? 3 : 1, n = ROWS * heads * WIDTH;
        float *x = plain(&w, n, 2), *weight = plain(&w, WIDTH, 1), *dy = plain(&w, n, 1);
        float *dx = plain(&w, n, 1), *dw = xcalloc(WIDTH, sizeof *dw);
        float clip = form ? 0.7f : 0;
        struct rmsnorm_backward b = {
            ROWS,  heads, WIDTH, x,    heads * WIDTH, weight, dy, heads * WIDTH, dx, heads * WIDTH, dw,
            false, 1e-3f, clip,  NULL, NULL,          0,      F32};
        for (int64_t i = 0; clip > 0 && i < n; i++) /* away from the kink, where no slope exists */
            x[i] += x[i] > 0 ? 0.2f : -0.2f;
        ref->rmsnorm_backward(NULL, &b);
        if (clip == 0) {
            differ("rmsnorm dx", ref, norm_loss, &b, x, dx, n);
            differ("rmsnorm dw", ref, norm_loss, &b, weight, dw, WIDTH);
        } else {
            int64_t cut = 0;
            for (int64_t i = 0; i < WIDTH; i++) {
                weight[i] = weight[i] > 0 ? 1.5f : 0.05f; /* cut surely or surely not, except for x near 0 */
                dw[i] = 0;
            }
            for (int64_t i = 0; i < n; i++) {
                x[i] = x[i] > 0 ? 1 + 0.2f * x[i] : -1 + 0.2f * x[i];
                cut += weight[i % WIDTH] > 1;
            }
            assert_true(cut > 0 && cut < n);
            ref->rmsnorm_backward(NULL, &b);
            differ("rmsnorm clip dx", ref, norm_loss, &b, x, dx, n);
            differ("rmsnorm clip dw", ref, norm_loss, &b, weight, dw, WIDTH);
        }
        free(x), free(weight), free(dy), free(dx), free(dw);
    }
}

/* A norm over two halves, each with the sums of both, is the norm over the whole. */
static void norm_in_parts(void **state)
{
    enum { ROWS = 4, WIDTH = 10, HALF = 5 };
    struct world w = {.seed = 8};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *x = plain(&w, ROWS * WIDTH, 2), *weight = plain(&w, WIDTH, 1), *dy = plain(&w, ROWS * WIDTH, 1);
    float y[2][ROWS * WIDTH], dx[2][ROWS * WIDTH], dw[2][WIDTH] = {0}, sum[2][ROWS], dot[2][ROWS];
    ref->rmsnorm(NULL,
                 &(struct rmsnorm){ROWS, 1, WIDTH, x, WIDTH, weight, y[0], WIDTH, 1e-3f, 0.6f, NULL, 0, F32});
    ref->rmsnorm_backward(NULL,
                          &(struct rmsnorm_backward){ROWS, 1, WIDTH, x, WIDTH, weight, dy, WIDTH, dx[0], WIDTH,
                                                     dw[0], false, 1e-3f, 0.6f, NULL, NULL, 0, F32});
    for (int h = 0; h < 2; h++)
        ref->row_sums(NULL, &(struct row_sums){ROWS, HALF, x + h * HALF, WIDTH, sum[h], .type = F32});
    for (int r = 0; r < ROWS; r++)
        sum[0][r] += sum[1][r];
    for (int h = 0; h < 2; h++)
        ref->row_sums(NULL, &(struct row_sums){ROWS, HALF, x + h * HALF, WIDTH, NULL, dy + h * HALF, WIDTH,
                                               weight + h * HALF, dot[h], sum[0], WIDTH, 1e-3f, 0.6f, F32});
    for (int r = 0; r < ROWS; r++)
        dot[0][r] += dot[1][r];
    for (int h = 0; h < 2; h++) {
        int at = h * HALF;
        ref->rmsnorm(NULL, &(struct rmsnorm){ROWS, 1, HALF, x + at, WIDTH, weight + at, y[1] + at, WIDTH, 1e-3f,
                                             0.6f, sum[0], WIDTH, F32});
        ref->rmsnorm_backward(NULL, &(struct rmsnorm_backward){ROWS, 1, HALF, x + at, WIDTH, weight + at,
                                                               dy + at, WIDTH, dx[1] + at, WIDTH, dw[1] + at,
                                                               false, 1e-3f, 0.6f, sum[0], dot[0], WIDTH, F32});
    }
    for (int i = 0; i < ROWS * WIDTH; i++)
        assert_true(fabsf(y[0][i] - y[1][i]) <= 1e-6f && fabsf(dx[0][i] - dx[1][i]) <= 3e-6f);
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabsf(dw[0][i] - dw[1][i]) <= 3e-6f);
    free(x), free(weight), free(dy);
}

static double attention_loss(const struct backend *ref, void *op)
{
    struct attention_backward *b = op;
    ref->attention(NULL, &b->fwd);
    return weighted(b->fwd.o, b->d_o, b->fwd.sequences * b->fwd.seq * b->fwd.heads * b->fwd.dim);
}

static void gradient_attention(void **state)
{
    enum {
        SEQUENCES = 2,
        SEQ = 6,
        HEADS = 4,
        KV = 2,
        DIM = 8,
        Q = HEADS * DIM,
        K = KV * DIM,
        ROWS = SEQUENCES * SEQ
    };
    struct world w = {.seed = 9};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *q = plain(&w, ROWS * Q, 1), *k = plain(&w, ROWS * K, 1), *v = plain(&w, ROWS * K, 1),
          *o = plain(&w, ROWS * Q, 1);
    float *dq = plain(&w, ROWS * Q, 1), *dk = plain(&w, ROWS * K, 1), *dv = plain(&w, ROWS * K, 1);
    float *d_o = plain(&w, ROWS * Q, 1), *lse = plain(&w, HEADS * ROWS, 1), *delta = plain(&w, HEADS * ROWS, 1);
    struct attention p = {SEQUENCES, SEQ, HEADS, KV, DIM, q, k, v, Q, K, K, o, Q, lse, 0.35f, F32};
    struct attention_backward b = {p, d_o, Q, dq, dk, dv, delta};
    ref->attention(NULL, &p);
    ref->attention_backward(NULL, &b);
    differ("attention dq", ref, attention_loss, &b, q, dq, ROWS * Q);
    differ("attention dk", ref, attention_loss, &b, k, dk, ROWS * K);
    differ("attention dv", ref, attention_loss, &b, v, dv, ROWS * K);
    free(q), free(k), free(v), free(o), free(dq), free(dk), free(dv), free(d_o), free(lse), free(delta);
}

static double swiglu_loss(const struct backend *ref, void *op)
{
    struct swiglu_backward *b = op;
    float *y = xmalloc((size_t)(b->rows * b->width) * sizeof *y);
    ref->swiglu(NULL, &(struct swiglu){b->rows, b->width, b->gate_up, b->weight, y, F32});
    double sum = weighted(y, b->dy, b->rows * b->width);
    free(y);
    return sum;
}

static void gradient_swiglu(void **state)
{
    enum { ROWS = 4, WIDTH = 9 };
    struct world w = {.seed = 10};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *gate_up = plain(&w, ROWS * 2 * WIDTH, 3), *weight = plain(&w, ROWS, 1),
          *dy = plain(&w, ROWS * WIDTH, 1);
    float *d = plain(&w, ROWS * 2 * WIDTH, 1), *dw = plain(&w, ROWS, 1);
    struct swiglu_backward b = {ROWS, WIDTH, gate_up, weight, dy, d, dw, F32};
    ref->swiglu_backward(NULL, &b);
    differ("swiglu", ref, swiglu_loss, &b, gate_up, d, ROWS * 2 * WIDTH);
    differ("swiglu weight", ref, swiglu_loss, &b, weight, dw, ROWS);
    free(gate_up), free(weight), free(dy), free(d), free(dw);
}

/* The combine weights with the choice of experts held, the auxiliary and the z-loss. */
static double router_loss(const struct backend *ref, void *op)
{
    struct router_backward *b = op;
    struct router p = b->fwd;
    int64_t T = p.tokens, E = p.experts, K = p.top_k;
    float *scores = xmalloc((size_t)(T * E) * sizeof *scores), *lse = xmalloc((size_t)T * sizeof *lse);
    float *weight = xmalloc((size_t)(T * K) * sizeof *weight);
    int32_t *topk = xmalloc((size_t)(T * K) * sizeof *topk);
    p.scores = scores, p.lse = lse, p.weight = weight, p.topk = topk;
    ref->router(NULL, &p);
    double loss = 0;
    for (int64_t t = 0; t < T; t++) {
        double chosen = 1e-20, total = 0;
        for (int64_t k = 0; k < K; k++)
            chosen += scores[t * E + b->fwd.topk[t * K + k]];
        for (int64_t e = 0; e < E; e++)
            total += p.sigmoid ? scores[t * E + e] : 1.0 / (double)E;
        for (int64_t k = 0; k < K; k++)
            loss += b->d_weight[t * K + k] * scores[t * E + b->fwd.topk[t * K + k]] * p.scale /
                    (p.renormalise ? chosen : 1);
        for (int64_t e = 0; e < E; e++)
            loss += b->aux[e] * scores[t * E + e] / total;
        loss += b->z * lse[t] * lse[t] / 2;
    }
    free(scores), free(lse), free(weight), free(topk);
    return loss;
}

static void gradient_router(void **state)
{
    enum { T = 5, E = 6, K = 2 };
    struct world w = {.seed = 11};
    const struct backend *ref = backend_open("ref", 0, 1);
    for (int form = 0; form < 4; form++) {
        float *logits = plain(&w, T * E, 2), *d_weight = plain(&w, T * K, 1), *aux = plain(&w, E, 1);
        float *scores = plain(&w, T * E, 1), *lse = plain(&w, T, 1), *weight = plain(&w, T * K, 1);
        float *dlogits = plain(&w, T * E, 1);
        int32_t topk[T * K];
        struct router p = {T,      E,    K,      form & 1, form & 2, 1.7f,   1,   1,
                           logits, NULL, scores, lse,      topk,     weight, NULL};
        ref->router(NULL, &p);
        struct router_backward b = {p, d_weight, aux, 0.3f, dlogits};
        ref->router_backward(NULL, &b);
        differ("router", ref, router_loss, &b, logits, dlogits, T * E);
        free(logits), free(d_weight), free(aux), free(scores), free(lse), free(weight), free(dlogits);
    }
}

static double entropy_loss(const struct backend *ref, void *op)
{
    struct cross_entropy p = *(struct cross_entropy *)op;
    p.dlogits = NULL;
    ref->softmax_stats(NULL, &(struct softmax_stats){p.rows, p.width, 0, p.logits, p.target, (float *)p.stats});
    ref->cross_entropy(NULL, &p);
    double sum = 0;
    for (int64_t t = 0; t < p.rows; t++)
        sum += p.loss[t];
    return sum * p.scale;
}

static void gradient_loss(void **state)
{
    enum { ROWS = 4, WIDTH = 11 };
    struct world w = {.seed = 12};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *logits = plain(&w, ROWS * WIDTH, 3), *d = plain(&w, ROWS * WIDTH, 1), stats[3 * ROWS], loss[ROWS];
    int32_t target[ROWS] = {0, 3, 10, 7};
    struct cross_entropy p = {ROWS, WIDTH, 0, 1, logits, stats, target, 0.8f, loss, d, F32};
    entropy_loss(ref, &p);
    ref->cross_entropy(NULL, &p);
    differ("cross_entropy", ref, entropy_loss, &p, logits, d, ROWS * WIDTH);
    free(logits), free(d);
}

/* Philox-4x32-10 of counter 0 and key 0, from the authors' known answers, through Box-Muller. */
static void fill_known(void **state)
{
    const struct backend *ref = backend_open("ref", 0, 1);
    const double word[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    float x[4];
    ref->fill_normal(NULL, &(struct fill_normal){1, 4, x, 4, 0, 0, 4, 0, 1, F32});
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * log((word[i] + 0.5) / 4294967296.0)),
               angle = 2 * M_PI * word[i + 1] / 4294967296.0;
        assert_true(fabs(x[i] - radius * cos(angle)) < 1e-6 && fabs(x[i + 1] - radius * sin(angle)) < 1e-6);
    }
}

/* ---- the backends as such ---- */

/* The signal that ended a child which touched device memory, 0 if it lived. */
static int touched(const struct backend *be, char *p, bool mapped)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        volatile char *at = mapped ? be->host_map(NULL, p, 64, HOST_READ | HOST_WRITE) : p;
        *at = 1;
        if (mapped)
            be->host_unmap(NULL, p, 64, HOST_READ | HOST_WRITE, (void *)at);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void guard_faults(void **state)
{
    const struct backend *be = backend_open("guard", 0, 1);
    float *p = be->alloc(64 * sizeof *p), host[64];
    assert_int_equal(touched(be, (char *)p, false), SIGSEGV);
    assert_int_equal(touched(be, (char *)p, true), 0);
    be->scale(NULL, &(struct scale){64, p, 2});
    assert_int_equal(touched(be, (char *)p, false), SIGSEGV);
    assert_int_equal(be->download(NULL, host, p, sizeof host), 0);
    assert_true(host[0] == 0 && host[63] == 0);
    be->free(p, 64 * sizeof *p);

    be = backend_open("cpu", 0, 1);
    p = be->alloc(64 * sizeof *p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal(touched(be, (char *)p, false), 0);
    be->free(p, 64 * sizeof *p);
}

static void unknown_name(void **state)
{
    assert_null(backend_open("gpu", 0, 1));
    assert_int_equal(error_status(), STATUS_USAGE);
    error_clear();
}

/* The same product twice, and its rows cut elsewhere by a different number of segments, gives the same bits. */
static void same_bits(void **state)
{
    enum { M = 700, N = 520, K = 300 };
    struct world w = {.seed = 13};
    float *a = plain(&w, M * K, 1), *b = plain(&w, N * K, 1), *c[3];
    for (int i = 0; i < 3; i++) {
        const struct backend *be = backend_open("cpu", 0, 2);
        c[i] = plain(&w, M * N, 1);
        be->matmul(NULL, &(struct matmul){M, N, K, false, true, a, K, b, K, c[i], N, 0, F32, F32});
        assert_memory_equal(c[i], c[0], M * N * sizeof(float));
    }
    free(a), free(b), free(c[0]), free(c[1]), free(c[2]);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_norm),          cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rope),          cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_elementwise),   cmocka_unit_test(test_route),
        cmocka_unit_test(test_one_expert),    cmocka_unit_test(test_loss),
        cmocka_unit_test(test_nan),           cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_optim),         cmocka_unit_test(test_fill),
        cmocka_unit_test(gradient_norm),      cmocka_unit_test(norm_in_parts),
        cmocka_unit_test(gradient_attention), cmocka_unit_test(gradient_swiglu),
        cmocka_unit_test(gradient_router),    cmocka_unit_test(gradient_loss),
        cmocka_unit_test(fill_known),         cmocka_unit_test(guard_faults),
        cmocka_unit_test(unknown_name),       cmocka_unit_test(same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
