/* SPDX-License-Identifier: MIT */
/* The operations of a layer, on every backend against `ref` over awkward shapes: products, norms, attention,
 * activations. */
#include "lib/kernels.h"

static void matmul_one(struct world *w, int64_t m, int64_t n, int64_t k, int form, enum type to, int pad)
{
    bool ta = form & 1, tb = form & 2;
    int64_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad, ldc = n + pad;
    void *a = act(w, (ta ? k : m) * lda), *b = act(w, (tb ? n : k) * ldb), *c = values(w, m * ldc, to, 1);
    struct matmul p = OP(matmul, .m = m, .n = n, .k = k, .ta = ta, .tb = tb, .a = a, .lda = lda, .b = b,
                         .ldb = ldb, .c = c, .ldc = ldc, .beta = form & 4 ? 1 : 0, .in = w->type, .out = to);
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

/* `rows` that were reserved: more than there are, as many, or fewer, and then the rest is left alone. */
static void grouped_shape(struct world *w, const int32_t *offsets, int64_t experts, int64_t rows, int64_t n,
                          int64_t k, int64_t ldx, int64_t ldy, int64_t stride)
{
    for (int use = GROUPED_FORWARD; use <= GROUPED_WEIGHT + 1; use++) { /* weights: to what is there, or not */
        int kind = use <= GROUPED_WEIGHT ? use : GROUPED_WEIGHT;
        enum type wt = kind == GROUPED_WEIGHT ? F32 : w->type;
        void *x = act(w, rows * ldx), *y = act(w, rows * ldy), *m = values(w, experts * stride, wt, 1);
        int32_t *row = device(w, offsets, (size_t)(experts + 1) * sizeof *row);
        struct grouped_matmul p = OP(grouped_matmul, .kind = kind, .experts = experts, .rows = rows, .row = row,
                                     .n = n, .k = k, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .w = m,
                                     .stride = stride, .beta = use == GROUPED_WEIGHT, .type = w->type);
        w->be->grouped_matmul(w->s, &p);
        if (kind == GROUPED_FORWARD)
            show(w, "grouped forward", y, rows * ldy);
        else if (kind == GROUPED_INPUT)
            show(w, "grouped input", x, rows * ldx);
        else
            show_as(w, "grouped weight", m, experts * stride, F32, 1e-4);
        drop(w);
    }
}

static void grouped_one(struct world *w, const int32_t *offsets, int64_t experts, int64_t rows)
{
    grouped_shape(w, offsets, experts, rows, 66, 35, 38, 67, 66 * 35 + 5);
}

static void case_grouped(struct world *w)
{
    static const int32_t ragged[] = {0, 1, 4, 4, 21, 86, 216};
    for (int64_t more = -70; more <= 70; more += 70)
        grouped_one(w, ragged, 6, 216 + more);
    grouped_one(w, (int32_t[]){0}, 0, 3);
    grouped_one(w, (int32_t[]){0, 0, 0}, 2, 0);
    grouped_one(w, (int32_t[]){0, 0, 0}, 2, 17);
    grouped_one(w, (int32_t[]){0, 0, 300, 300}, 3, 512); /* all to one */
    grouped_one(w, (int32_t[]){0, 3, 700}, 2, 700);
    /* rows that vectors of 16 bytes can be loaded from */
    grouped_shape(w, ragged, 6, 216, 200, 136, 136, 208, 200 * 136);
    grouped_shape(w, ragged, 6, 216, 131, 40, 48, 136, 131 * 40 + 8);
    grouped_shape(w, ragged, 6, 216, 0, 8, 8, 0, 0);
    grouped_shape(w, ragged, 6, 216, 8, 0, 0, 8, 0);
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
        w->be->row_sums(w->s, &OP(row_sums, .rows = rows, .width = width, .x = x, .ldx = ldx, .dy = dy,
                                  .lddy = ldx, .w = weight, .dot = dot, .sumsq_in = sumsq, .full_width = full,
                                  .eps = 1e-5f, .clip = clip, .type = w->type));
        show_floats(w, "row_sums sumsq", sumsq, rows);
        show_floats(w, "row_sums dot", dot, rows);
    }
    struct rmsnorm p = OP(rmsnorm, .rows = rows, .heads = heads, .width = width, .x = x, .ldx = ldx,
                          .w = weight, .y = y, .ldy = ldy, .eps = 1e-5f, .clip = clip,
                          .sumsq = partial ? sumsq : NULL, .full_width = full, .type = w->type);
    w->be->rmsnorm(w->s, &p);
    show(w, "rmsnorm", y, rows * ldy);
    struct rmsnorm_backward b =
        OP(rmsnorm_backward, .rows = rows, .heads = heads, .width = width, .x = keep, .ldx = ldx, .w = weight,
           .dy = dy, .lddy = ldx, .dx = dx, .lddx = ldx, .dw = dw, .accumulate = !in_place, .eps = 1e-5f,
           .clip = clip, .sumsq = partial ? sumsq : NULL, .dot = partial ? dot : NULL, .full_width = full,
           .type = w->type);
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

static void attention_of(struct world *w, int64_t sequences, int64_t seq, int64_t heads, int64_t kv,
                         int64_t dim, int64_t padq, int64_t padk, int64_t pado, void *k)
{
    int64_t rows = sequences * seq, ldq = heads * dim + padq, ldk = kv * dim + padk, ldv = kv * dim,
            ldo = heads * dim + pado;
    void *q = values(w, rows * ldq, w->type, 2), *v = act(w, rows * ldv);
    void *o = act(w, rows * ldo), *d_o = act(w, rows * ldo);
    void *dq = act(w, rows * ldq), *dk = act(w, rows * ldk), *dv = act(w, rows * ldv);
    float *lse = floats(w, heads * rows, 0), *delta = floats(w, heads * rows, 0);
    struct attention p = OP(attention, .sequences = sequences, .seq = seq, .heads = heads, .kv_heads = kv,
                            .dim = dim, .q = q, .k = k, .v = v, .ldq = ldq, .ldk = ldk, .ldv = ldv, .o = o,
                            .ldo = ldo, .lse = lse, .scale = 0.31f, .type = w->type);
    w->be->attention(w->s, &p);
    show(w, "attention", o, rows * ldo);
    show_floats(w, "attention lse", lse, heads * rows);
    struct attention_backward b =
        OP(attention_backward, .fwd = p, .d_o = d_o, .lddo = ldo, .dq = dq, .dk = dk, .dv = dv, .delta = delta);
    w->be->attention_backward(w->s, &b);
    double tol = w->type == F32 ? 2e-4 : 1.0 / 40; /* delta comes from o as rounded by each */
    show_as(w, "attention dq", dq, rows * ldq, w->type, tol);
    show_as(w, "attention dk", dk, rows * ldk, w->type, tol);
    show_as(w, "attention dv", dv, rows * ldv, w->type, tol);
    drop(w);
}

static void attention_padded(struct world *w, int64_t sequences, int64_t seq, int64_t heads, int64_t kv,
                             int64_t dim, int64_t padq, int64_t padk, int64_t pado)
{
    void *k = values(w, sequences * seq * (kv * dim + padk), w->type, 2);
    attention_of(w, sequences, seq, heads, kv, dim, padq, padk, pado, k);
}

/* Keys that grow: the largest score rises far from one block of keys to the next. */
static void attention_rising(struct world *w, int64_t seq, int64_t dim)
{
    void *host = xmalloc((size_t)(seq * dim) * 4);
    for (int64_t i = 0; i < seq * dim; i++)
        store(host, i, w->type, (float)(uniform(w) * exp2((double)(i / dim) / 96 - 2)));
    void *k = device(w, host, (size_t)(seq * dim) * type_bytes(w->type));
    free(host);
    attention_of(w, 1, seq, 1, 1, dim, 0, 0, 0, k);
}

static void attention_one(struct world *w, int64_t sequences, int64_t seq, int64_t heads, int64_t kv,
                          int64_t dim)
{
    attention_padded(w, sequences, seq, heads, kv, dim, 5, 2, 1);
}

/* In f32, which is of one tile size for all heads, fewer rows do. */
static void case_attention(struct world *w)
{
    attention_one(w, 0, 7, 2, 1, 16);
    attention_one(w, 2, 1, 2, 2, 16);
    attention_one(w, 3, 7, 4, 2, 16);
    attention_one(w, 1, 17, 3, 1, 64);
    attention_one(w, 2, 130, 1, 1, 64);
    attention_one(w, 1, w->type == F32 ? 65 : 256, 2, 1, 128);
    attention_one(w, 1, w->type == F32 ? 530 : 700, 2, 1, 8);
    attention_one(w, 1, 40, 2, 1, 11);
    attention_one(w, 1, 131, 8, 2, 40);
    attention_one(w, 2, 65, 6, 1, 80);
    attention_rising(w, 450, 64);
    /* rows that vectors of 16 bytes can be loaded from */
    attention_padded(w, 1, 150, 4, 2, 64, 8, 16, 0);
    attention_padded(w, 1, w->type == F32 ? 50 : 150, 2, 1, 128, 0, 0, 8);
    attention_padded(w, 1, w->type == F32 ? 33 : 70, 2, 1, 192, 0, 0, 0);
    attention_padded(w, 1, w->type == F32 ? 33 : 70, 1, 1, 256, 8, 0, 8);
    attention_padded(w, 1, 33, 1, 1, 24, 0, 8, 0);
}

/* The tensors of an attention, one behind the other. */
enum { Q, K, V, O, D_O, DQ, DK, DV, LSE, DELTA, TENSORS };

/* `heads` heads from `first` on, with the key heads that they share in twos. */
static void attention_part(struct world *w, void *const t[TENSORS], int64_t seq, int64_t first, int64_t heads)
{
    enum { HEADS = 4, DIM = 48 };
    int64_t at_q = first * DIM, at_k = first / 2 * DIM, at_row = first * seq, ldq = HEADS * DIM, ldk = ldq / 2;
    struct attention p =
        OP(attention, .sequences = 1, .seq = seq, .heads = heads, .kv_heads = heads / 2, .dim = DIM,
           .q = at(t[Q], at_q, w->type), .k = at(t[K], at_k, w->type), .v = at(t[V], at_k, w->type), .ldq = ldq,
           .ldk = ldk, .ldv = ldk, .o = at(t[O], at_q, w->type), .ldo = ldq, .lse = (float *)t[LSE] + at_row,
           .scale = 0.2f, .type = w->type);
    struct attention_backward b =
        OP(attention_backward, .fwd = p, .d_o = at(t[D_O], at_q, w->type), .lddo = ldq,
           .dq = at(t[DQ], at_q, w->type), .dk = at(t[DK], at_k, w->type), .dv = at(t[DV], at_k, w->type),
           .delta = (float *)t[DELTA] + at_row);
    w->be->attention(w->s, &p);
    w->be->attention_backward(w->s, &b);
}

/* What a head comes to depends, to the last bit, neither on the threads nor on the heads beside it. */
static void test_attention_bits(void **state)
{
    enum { SEQ = 600, WIDE = 4 * 48 };
    static const int64_t width[TENSORS] = {WIDE, WIDE / 2, WIDE / 2, WIDE, WIDE,
                                           WIDE, WIDE / 2, WIDE / 2, 4,    4};
    for (enum type type = F32; type <= BF16; type++) {
        struct world w = {.be = backend_open("cpu", 0, 1), .type = type};
        void *t[2][TENSORS], *host[2];
        w.s = w.be->stream_new();
        for (int run = 0; run < 2; run++) {
            w.be = backend_open("cpu", 0, run ? 3 : 1);
            w.seed = 12345;
            for (int n = 0; n < TENSORS; n++)
                t[run][n] = values(&w, SEQ * width[n], n < LSE ? w.type : F32, 1);
            for (int64_t first = 0; first < 4; first += run ? 2 : 4)
                attention_part(&w, t[run], SEQ, first, run ? 2 : 4);
            assert_int_equal(w.be->sync(w.s), 0);
        }
        for (int n = O; n < TENSORS; n++) {
            size_t bytes = (size_t)(SEQ * width[n]) * type_bytes(n < LSE ? w.type : F32);
            for (int run = 0; run < 2; run++)
                download(&w, host[run] = xmalloc(bytes), t[run][n], bytes);
            assert_memory_equal(host[0], host[1], bytes);
            free(host[0]);
            free(host[1]);
        }
        drop(&w);
        w.be->stream_free(w.s);
    }
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
            w->be->rope(w->s,
                        &OP(rope, .rows = h[0], .seq = h[1], .heads = h[2], .head_dim = h[3], .rotary = h[4],
                            .x = x, .ld = ld, .cos_sin = angles, .inverse = inverse, .type = w->type));
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
                int32_t less = (int32_t)(rows - rows / 3);
                int32_t *there = in_place ? device(w, &less, sizeof less) : NULL; /* rows that there are */
                void *dy = act(w, rows * width), *d = in_place ? gate_up : act(w, rows * 2 * width);
                float *weight = weighted ? floats(w, rows, 1) : NULL,
                      *dw = weighted ? floats(w, rows, 0) : NULL;
                w->be->swiglu(w->s, &OP(swiglu, .rows = rows, .width = width, .count = there,
                                        .gate_up = gate_up, .weight = weight, .y = y, .type = w->type));
                show(w, "swiglu", y, rows * width);
                w->be->swiglu_backward(w->s, &OP(swiglu_backward, .rows = rows, .width = width, .count = there,
                                                 .gate_up = gate_up, .weight = weight, .dy = dy, .d_gate_up = d,
                                                 .d_weight = dw, .type = w->type));
                show(w, "swiglu_backward", d, rows * 2 * width);
                if (dw)
                    show_as(w, "swiglu_backward weight", dw, rows, F32, 5e-4);
                drop(w);
            }
}

/* Gates whose exponentials end the range of f32, and gates that are no numbers. */
static void case_far_gates(struct world *w)
{
    static const float gates[] = {0,   -0.0f, 16,   -16,  87,    -87,   88,     -88,   88.5f,  -88.5f,   89,
                                  -89, 100,   -100, 1e4f, -1e4f, 1e30f, -1e30f, 3e38f, -3e38f, INFINITY, NAN};
    enum { WIDTH = 3 * COUNT(gates), ROWS = 2 };
    enum type t = w->type;
    char host[2 * ROWS * WIDTH * sizeof(float)];
    for (int64_t i = 0; i < 2 * ROWS * WIDTH; i++)
        store(host, i, t, i / WIDTH % 2 ? 0.75f : gates[i % (int64_t)COUNT(gates)]);
    void *gate_up = device(w, host, 2 * ROWS * WIDTH * type_bytes(t)), *y = act(w, ROWS * WIDTH);
    void *dy = act(w, ROWS * WIDTH), *d = act(w, 2 * ROWS * WIDTH);
    w->be->swiglu(w->s, &OP(swiglu, .rows = ROWS, .width = WIDTH, .gate_up = gate_up, .y = y, .type = t));
    show(w, "swiglu of far gates", y, ROWS * WIDTH);
    w->be->swiglu_backward(w->s, &OP(swiglu_backward, .rows = ROWS, .width = WIDTH, .gate_up = gate_up,
                                     .dy = dy, .d_gate_up = d, .type = t));
    show(w, "swiglu_backward of far gates", d, 2 * ROWS * WIDTH);
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
        w->be->add(w->s, &OP(add, .count = count, .a = a, .b = b, .y = y, .type = t));
        show(w, "add", y, count);
        w->be->add(w->s, &OP(add, .count = count, .a = a, .b = b, .parts = 3, .y = a, .type = t));
        show(w, "add parts in place", a, count);
        w->be->add(w->s, &OP(add, .count = count, .b = b, .parts = 3, .y = y, .type = t));
        show(w, "add parts", y, count);
        for (int before = 1; before <= 3; before++) {
            w->be->add(w->s, &OP(add, .count = count, .a = a, .before = before, .b = b, .parts = 3, .y = y,
                                 .type = t));
            show(w, "add parts, some before", y, count);
        }
        w->be->add(w->s, &OP(add, .count = count, .a = a, .b = b, .parts = 1, .y = b, .type = t));
        show(w, "add into b", b, count);
        w->be->sum_rows(w->s, &OP(sum_rows, .rows = rows, .width = width, .parts = 3, .x = b, .stride = count,
                                  .ldx = width, .y = x, .ldy = ld, .type = t));
        show(w, "sum_rows", x, rows * ld);
        w->be->bias(w->s, &OP(bias, .rows = rows, .width = width, .x = x, .ldx = ld, .bias = bias, .type = t));
        show(w, "bias", x, rows * ld);
        w->be->bias_backward(w->s, &OP(bias_backward, .rows = rows, .width = width, .dy = x, .lddy = ld,
                                       .d_bias = db, .type = t));
        show_floats(w, "bias_backward", db, width);
        w->be->clamp(w->s,
                     &OP(clamp, .rows = rows, .width = width, .x = x, .ldx = ld, .limit = 0.5f, .type = t));
        show(w, "clamp", x, rows * ld);
        w->be->clamp_backward(w->s, &OP(clamp_backward, .rows = rows, .width = width, .x = x, .ldx = ld,
                                        .dx = z, .lddx = ld, .limit = 0.5f, .type = t));
        show(w, "clamp_backward", z, rows * ld);
        w->be->copy_rows(w->s, &OP(copy_rows, .rows = rows, .width = width, .x = x, .ldx = ld, .y = y,
                                   .ldy = width, .type = t));
        show(w, "copy_rows", y, count);
        w->be->row_gate(w->s, &OP(row_gate, .rows = rows, .width = width, .x = a, .g = g, .y = y, .type = t));
        show(w, "row_gate", y, count);
        w->be->row_gate_backward(w->s, &OP(row_gate_backward, .rows = rows, .width = width, .x = a, .dy = y,
                                           .g = g, .dx = y, .dg = dg, .type = t));
        show(w, "row_gate_backward", y, count);
        show_as(w, "row_gate_backward gate", dg, rows, F32, 1e-3);
        w->be->row_gate(w->s, &OP(row_gate, .rows = rows, .width = width, .x = a, .g = g, .y = a, .type = t));
        show(w, "row_gate in place", a, count);
        for (enum type to = F32; to <= BF16; to++) {
            void *c = values(w, count, to, 1);
            w->be->convert(w->s, &OP(convert, .count = count, .x = act(w, count), .y = c, .from = t, .to = to,
                                     .scale = 0.3f));
            show_as(w, "convert", c, count, to, 0);
        }
        drop(w);
    }
}

static void show_bits(struct world *w, const char *what, const uint16_t *x, int64_t count)
{
    uint16_t *host = xmalloc((size_t)count * sizeof *host);
    download(w, host, x, (size_t)count * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, isnan(bf16_to_f32(host[i])) ? NAN : host[i], 0);
    free(host);
}

/* To the bit: ties, what overflows, denormal numbers and their ties, and NaNs, each beside each, anywhere in a
 * row. */
static void case_rounding(struct world *w)
{
    static const uint16_t special[] = {0,      1,      2,      3,      0x3f,   0x7f,   0x80,   0x81,   0x100,
                                       0x3f7f, 0x3f80, 0x3f81, 0x3b80, 0x3b81, 0x3b7f, 0x3c00, 0x7f00, 0x7f7f,
                                       0x7f80, 0x7f81, 0x7fff, 0x7b7f, 0x7a80, 0x00c1, 0x0141, 0x4049, 0x4b12};
    enum { MANY = 2 * COUNT(special), PAIRS = MANY * MANY };
    uint16_t a[PAIRS], b[PAIRS], ordinary[PAIRS];
    float half[PAIRS] = {0};
    if (w->type != BF16)
        return;
    for (size_t i = 0; i < PAIRS; i++) {
        a[i] = (uint16_t)(special[i / MANY / 2] | (i / MANY % 2) << 15);
        b[i] = (uint16_t)(special[i % MANY / 2] | (i % 2) << 15);
        ordinary[i] = i % 37 ? f32_to_bf16((float)uniform(w)) : a[i];
    }
    void *x = device(w, a, sizeof a), *z = device(w, b, sizeof b), *o = device(w, ordinary, sizeof ordinary);
    uint16_t *y = device(w, NULL, sizeof a);
    float *g = device(w, half, sizeof half);
    w->be->add(w->s, &OP(add, .count = PAIRS, .a = x, .b = z, .y = y, .type = BF16));
    show_bits(w, "sums", y, PAIRS);
    w->be->row_gate(w->s, &OP(row_gate, .rows = MANY, .width = MANY, .x = z, .g = g, .y = y, .type = BF16));
    show_bits(w, "halves", y, PAIRS);
    w->be->row_gate(w->s, &OP(row_gate, .rows = 1, .width = PAIRS, .x = o, .g = g, .y = y, .type = BF16));
    show_bits(w, "halves of few", y, PAIRS);
}

/* More rows than a grid may have blocks in y, or any 16 bits count. */
static void case_many_rows(struct world *w)
{
    enum { ROWS = 66000, WIDTH = 2 };
    enum type t = w->type;
    int64_t n = ROWS * WIDTH;
    if (t == BF16)
        return; /* numbers of rows have no type */
    void *x = act(w, 2 * n), *y = act(w, n), *weight = act(w, WIDTH);
    float *sum = floats(w, WIDTH, 0), *row = floats(w, ROWS, 0);
    w->be->swiglu(w->s, &OP(swiglu, .rows = ROWS, .width = WIDTH, .gate_up = x, .y = y, .type = t));
    show(w, "swiglu", y, n);
    w->be->rmsnorm(w->s, &OP(rmsnorm, .rows = ROWS, .heads = 1, .width = WIDTH, .x = x, .ldx = WIDTH,
                             .w = weight, .y = y, .ldy = WIDTH, .eps = 1e-5f, .type = t));
    show(w, "rmsnorm", y, n);
    w->be->rmsnorm_backward(w->s, &OP(rmsnorm_backward, .rows = ROWS, .heads = 1, .width = WIDTH, .x = x,
                                      .ldx = WIDTH, .w = weight, .dy = y, .lddy = WIDTH, .dx = y, .lddx = WIDTH,
                                      .dw = sum, .eps = 1e-5f, .type = t));
    show_as(w, "rmsnorm_backward dw", sum, WIDTH, F32, 2e-3);
    w->be->row_sums(w->s,
                    &OP(row_sums, .rows = ROWS, .width = WIDTH, .x = x, .ldx = WIDTH, .sumsq = row, .type = t));
    show_floats(w, "row_sums", row, ROWS);
    w->be->bias_backward(w->s, &OP(bias_backward, .rows = ROWS, .width = WIDTH, .dy = x, .lddy = WIDTH,
                                   .d_bias = sum, .type = t));
    show_as(w, "bias_backward", sum, WIDTH, F32, 2e-3);
}

CASE(matmul)
CASE(grouped)
CASE(norm)
CASE(attention)
CASE(rope)
CASE(swiglu)
CASE(far_gates)
CASE(elementwise)
CASE(rounding)
CASE(many_rows)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),         cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_norm),           cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rope),           cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_far_gates),      cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_rounding),       cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_attention_bits),
    };
    return RUN_CASES(argc, argv, tests);
}
