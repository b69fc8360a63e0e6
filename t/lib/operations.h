/* SPDX-License-Identifier: MIT */
/* An example of each operation of ops.h, in forms that differ in what is there: for tests of all of them. */
#ifndef T_OPERATIONS_H
#define T_OPERATIONS_H

#include "access.h"
#include "lib/kernels.h"

enum { BLOCK = 1 << 17, FORMS = 8 };

struct bench {
    struct world w; /* numbers, and the backend */
    char *block;    /* [BLOCK], of which this much is in use */
    size_t used;
    int form;  /* of the operation: its bits are what can be there or not */
    int64_t n; /* a number of rows */
    union {
#define X(name) struct name name;
        BACKEND_OPS(X)
#undef X
    } op;
    struct access_list said;
};

/* ---- tensors ---- */

static void *place(struct bench *b, size_t bytes)
{
    char *p = b->block + b->used;
    b->used += (bytes + 63) / 64 * 64 + 64; /* and a gap */
    assert_true(b->used <= BLOCK);
    return p;
}

static void *lay(struct bench *b, int64_t count, enum type type)
{
    void *p = place(b, (size_t)count * type_bytes(type));
    for (int64_t i = 0; i < count; i++)
        store(p, i, type, (float)uniform(&b->w));
    return p;
}

static void *lay_act(struct bench *b, int64_t count)
{
    return lay(b, count, b->w.type);
}

static float *lay_f32(struct bench *b, int64_t count)
{
    return lay(b, count, F32);
}

static double *lay_f64(struct bench *b, int64_t count)
{
    double *p = place(b, (size_t)count * sizeof *p);
    for (int64_t i = 0; i < count; i++)
        p[i] = 1 + uniform(&b->w);
    return p;
}

static int32_t *lay_ints(struct bench *b, int64_t count, int32_t from, int32_t to)
{
    int32_t *p = place(b, (size_t)count * sizeof *p);
    for (int64_t i = 0; i < count; i++)
        p[i] = from + (int32_t)((uniform(&b->w) + 1) / 2 * (to - from));
    return p;
}

static int32_t *lay_list(struct bench *b, const int32_t *list, int64_t count)
{
    return memcpy(place(b, (size_t)count * sizeof *list), list, (size_t)count * sizeof *list);
}

/* ---- an example of each operation ---- */

static void lay_matmul(struct bench *b, struct matmul *o)
{
    int64_t m = b->n, n = b->n + 2, k = b->n * 2 + 1;
    bool ta = b->form & 1, tb = b->form & 2;
    enum type to = b->w.type;
    *o = OP(matmul, .m = m, .n = n, .k = k, .ta = ta, .tb = tb, .lda = (ta ? m : k) + 3,
            .ldb = (tb ? k : n) + 1, .ldc = n + 2, .beta = b->form & 4 ? 1 : 0, .in = to, .out = to);
    o->a = lay_act(b, (ta ? k : m) * o->lda);
    o->b = lay_act(b, (tb ? n : k) * o->ldb);
    o->c = lay_act(b, m * o->ldc);
}

static void lay_grouped_matmul(struct bench *b, struct grouped_matmul *o)
{
    enum grouped_kind kind = b->form % 3;
    enum type type = b->w.type;
    int32_t n = (int32_t)b->n;
    *o = OP(grouped_matmul, .kind = kind, .experts = 3, .rows = n, .n = 5, .k = 6, .ldx = 8, .ldy = 5,
            .stride = 37, .beta = b->form & 4 ? 1 : 0, .type = type);
    o->row = lay_list(b, (int32_t[]){0, n / 2, n / 2, n > 2 ? n - 2 : 0}, 4);
    o->x = lay_act(b, n * o->ldx);
    o->y = lay_act(b, n * o->ldy);
    o->w = lay(b, 3 * o->stride, kind == GROUPED_WEIGHT ? F32 : type);
}

static void lay_rmsnorm(struct bench *b, struct rmsnorm *o)
{
    bool whole = b->form & 1;
    int64_t heads = whole ? 1 : 2;
    *o = OP(rmsnorm, .rows = b->n, .heads = heads, .width = 5, .ldx = 12, .ldy = 11, .eps = 1e-5f,
            .clip = b->form & 2 ? 0.5f : 0, .full_width = 10, .type = b->w.type);
    o->x = lay_act(b, b->n * o->ldx);
    o->w = lay_act(b, o->width);
    o->y = lay_act(b, b->n * o->ldy);
    o->sumsq = whole ? lay_f32(b, b->n) : NULL;
}

static void lay_rmsnorm_backward(struct bench *b, struct rmsnorm_backward *o)
{
    bool whole = b->form & 1;
    int64_t heads = whole ? 1 : 2;
    *o = OP(rmsnorm_backward, .rows = b->n, .heads = heads, .width = 5, .ldx = 12, .lddy = 11, .lddx = 13,
            .eps = 1e-5f, .clip = b->form & 2 ? 2 : 0, .accumulate = b->form & 4, .full_width = 10,
            .type = b->w.type);
    o->x = lay_act(b, b->n * o->ldx);
    o->w = lay_act(b, o->width);
    o->dy = lay_act(b, b->n * o->lddy);
    o->dx = lay_act(b, b->n * o->lddx);
    o->dw = lay_f32(b, o->width);
    o->sumsq = whole ? lay_f32(b, b->n) : NULL;
    o->dot = whole ? lay_f32(b, b->n) : NULL;
}

static void lay_row_sums(struct bench *b, struct row_sums *o)
{
    *o = OP(row_sums, .rows = b->n, .width = 7, .ldx = 9, .lddy = 8, .full_width = 14, .eps = 1e-5f,
            .clip = b->form & 4 ? 0.5f : 0, .type = b->w.type);
    o->x = lay_act(b, b->n * o->ldx);
    o->sumsq = b->form & 1 ? lay_f32(b, b->n) : NULL;
    if (b->form & 1 && !(b->form & 2))
        return;
    o->dy = lay_act(b, b->n * o->lddy);
    o->w = lay_act(b, o->width);
    o->sumsq_in = lay_f32(b, b->n);
    o->dot = lay_f32(b, b->n);
}

static void lay_rope(struct bench *b, struct rope *o)
{
    *o = OP(rope, .rows = b->n, .seq = b->form & 1 ? b->n + 3 : 3, .heads = 2, .head_dim = 8,
            .rotary = b->form & 2 ? 4 : 8, .ld = 19, .inverse = b->form & 4, .type = b->w.type);
    o->x = lay_act(b, b->n * o->ld);
    o->cos_sin = lay_f32(b, o->seq * o->rotary);
}

static void lay_attention(struct bench *b, struct attention *o)
{
    int64_t rows = 2 * b->n;
    *o = OP(attention, .sequences = 2, .seq = b->n, .heads = 4, .kv_heads = b->form & 1 ? 2 : 4, .dim = 8,
            .ldq = 96, .ldk = 96, .ldv = 96, .ldo = 35, .scale = 0.5f, .type = b->w.type);
    o->q = lay_act(b, rows * 96); /* a row has all three */
    o->k = at(o->q, 32, o->type);
    o->v = at(o->q, 64, o->type);
    o->o = lay_act(b, rows * o->ldo);
    o->lse = lay_f32(b, 4 * rows);
}

static void lay_attention_backward(struct bench *b, struct attention_backward *o)
{
    lay_attention(b, &o->fwd);
    int64_t rows = 2 * b->n;
    b->w.be->attention(NULL, &o->fwd);
    o->lddo = 33;
    o->d_o = lay_act(b, rows * o->lddo);
    o->dq = lay_act(b, rows * 96);
    o->dk = at(o->dq, 32, o->fwd.type);
    o->dv = at(o->dq, 64, o->fwd.type);
    o->delta = lay_f32(b, 4 * rows);
}

static int32_t *lay_count(struct bench *b)
{
    return b->form & 1 ? lay_ints(b, 1, (int32_t)b->n / 2, (int32_t)b->n / 2 + 1) : NULL;
}

static void lay_swiglu(struct bench *b, struct swiglu *o)
{
    *o = OP(swiglu, .rows = b->n, .width = 5, .type = b->w.type);
    o->count = lay_count(b);
    o->gate_up = lay_act(b, b->n * 10);
    o->weight = b->form & 2 ? lay_f32(b, b->n) : NULL;
    o->y = lay_act(b, b->n * 5);
}

static void lay_swiglu_backward(struct bench *b, struct swiglu_backward *o)
{
    *o = OP(swiglu_backward, .rows = b->n, .width = 5, .type = b->w.type);
    o->count = lay_count(b);
    void *gate_up = lay_act(b, b->n * 10);
    o->gate_up = gate_up;
    o->weight = b->form & 2 ? lay_f32(b, b->n) : NULL;
    o->dy = lay_act(b, b->n * 5);
    o->d_gate_up = b->form & 4 ? gate_up : lay_act(b, b->n * 10);
    o->d_weight = b->form & 2 ? lay_f32(b, b->n) : NULL;
}

static void lay_add(struct bench *b, struct add *o)
{
    int parts = b->form & 1 ? 3 : 0;
    void *a = b->form & 2 ? lay_act(b, b->n) : NULL;
    *o = OP(add, .count = b->n, .a = a, .b = lay_act(b, b->n * (parts ? parts : 1)), .parts = parts,
            .before = a ? parts / 2 : 0, .y = a && b->form & 4 ? a : lay_act(b, b->n), .type = b->w.type);
}

static void lay_add_f64(struct bench *b, struct add_f64 *o)
{
    *o = OP(add_f64, .count = b->n, .parts = 1 + b->form, .b = lay_f64(b, b->n * (1 + b->form)),
            .y = lay_f64(b, b->n));
}

static void lay_bias(struct bench *b, struct bias *o)
{
    *o = OP(bias, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 7), .ldx = 7, .bias = lay_act(b, 5),
            .type = b->w.type);
}

static void lay_bias_backward(struct bench *b, struct bias_backward *o)
{
    *o = OP(bias_backward, .rows = b->n, .width = 5, .dy = lay_act(b, b->n * 7), .lddy = 7,
            .d_bias = lay_f32(b, 5), .type = b->w.type);
}

static void lay_clamp(struct bench *b, struct clamp *o)
{
    *o = OP(clamp, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 7), .ldx = 7, .limit = 0.25f,
            .type = b->w.type);
}

static void lay_clamp_backward(struct bench *b, struct clamp_backward *o)
{
    *o = OP(clamp_backward, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 7), .ldx = 7,
            .dx = lay_act(b, b->n * 9), .lddx = 9, .limit = 0.5f, .type = b->w.type);
}

static void lay_copy_rows(struct bench *b, struct copy_rows *o)
{
    *o = OP(copy_rows, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 7), .ldx = 7, .y = lay_act(b, b->n * 9),
            .ldy = b->form & 1 ? 5 : 9, .type = b->w.type);
}

static void lay_convert(struct bench *b, struct convert *o)
{
    enum type from = b->form & 1 ? BF16 : F32, to = b->form & 2 ? BF16 : F32;
    *o = OP(convert, .count = b->n, .x = lay(b, b->n, from), .y = lay(b, b->n, to), .from = from, .to = to,
            .scale = 1.5f);
}

static void lay_row_gate(struct bench *b, struct row_gate *o)
{
    void *x = lay_act(b, b->n * 5);
    *o = OP(row_gate, .rows = b->n, .width = 5, .x = x, .g = lay_f32(b, b->n),
            .y = b->form & 1 ? x : lay_act(b, b->n * 5), .type = b->w.type);
}

static void lay_row_gate_backward(struct bench *b, struct row_gate_backward *o)
{
    void *dy = lay_act(b, b->n * 5);
    *o = OP(row_gate_backward, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 5), .dy = dy,
            .g = lay_f32(b, b->n), .dx = b->form & 1 ? dy : lay_act(b, b->n * 5), .dg = lay_f32(b, b->n),
            .type = b->w.type);
}

static void lay_router(struct bench *b, struct router *o)
{
    int64_t T = b->n, E = 8, K = 3;
    *o = OP(router, .tokens = T, .experts = E, .top_k = K, .sigmoid = b->form & 1, .renormalise = b->form & 2,
            .scale = 1.5f, .groups = b->form & 4 ? 4 : 0, .top_groups = 2);
    o->logits = lay_f32(b, T * E);
    o->bias = b->form & 1 ? lay_f32(b, E) : NULL;
    o->scores = lay_f32(b, T * E);
    o->lse = lay_f32(b, T);
    o->topk = lay_ints(b, T * K, 0, 8);
    o->weight = lay_f32(b, T * K);
    o->margin = b->form & 2 ? lay_f32(b, T) : NULL;
}

static void lay_router_backward(struct bench *b, struct router_backward *o)
{
    lay_router(b, &o->fwd);
    b->w.be->router(NULL, &o->fwd);
    int64_t T = o->fwd.tokens, E = o->fwd.experts;
    o->d_weight = lay_f32(b, T * o->fwd.top_k);
    o->aux = b->form & 2 ? lay_f32(b, E) : NULL;
    o->z = b->form & 1 || b->form & 4 ? 0.25f : 0;
    o->dlogits = b->form & 4 ? o->fwd.scores : lay_f32(b, T * E);
}

static void lay_router_stats(struct bench *b, struct router_stats *o)
{
    *o = OP(router_stats, .tokens = b->n, .experts = 8, .top_k = 3, .sigmoid = b->form & 1,
            .scores = lay_f32(b, b->n * 8), .lse = lay_f32(b, b->n), .topk = lay_ints(b, b->n * 3, 0, 8),
            .prob = lay_f32(b, 8), .count = lay_f32(b, 8), .z = lay_f32(b, 1));
}

/* Choices [T,3] among 8 experts, a token's all different. */
static int32_t *lay_choices(struct bench *b)
{
    int32_t *topk = lay_ints(b, b->n * 3, 0, 8);
    for (int64_t t = 0; t < b->n; t++)
        for (int k = 1; k < 3; k++)
            topk[3 * t + k] = (topk[3 * t] + 2 * k) % 8;
    return topk;
}

static void lay_capacity(struct bench *b, struct capacity *o)
{
    *o = OP(capacity, .tokens = b->n, .experts = 8, .top_k = 3, .capacity = 2, .by_prob = b->form & 1,
            .topk = lay_choices(b), .weight = lay_f32(b, b->n * 3), .keep = lay_ints(b, b->n * 3, 2, 9),
            .dropped = lay_f32(b, 1), .seq = b->form & 2 ? 4 : 0);
}

static void lay_sort_choices(struct bench *b, struct sort_choices *o)
{
    *o = OP(sort_choices, .tokens = b->n, .experts = 8, .top_k = 3, .topk = lay_choices(b),
            .keep = b->form & 1 ? lay_ints(b, b->n * 3, 0, 2) : NULL,
            .slot_of = b->form & 2 ? lay_list(b, (int32_t[]){7, 6, 5, 4, 0, 1, 2, 3}, 8) : NULL,
            .count = lay_ints(b, 8, 50, 60), .first = lay_ints(b, 9, 50, 60),
            .position = lay_ints(b, b->n * 3, 50, 60), .source = lay_ints(b, b->n * 3, 50, 60));
}

static void lay_permute(struct bench *b, struct permute *o)
{
    int64_t T = (b->n + 1) / 2;
    *o = OP(permute, .tokens = T, .rows = T * 2, .width = 6, .top_k = 2, .ldy = b->form & 4 ? 9 : 6, .ldw = 3,
            .type = b->w.type);
    o->count = lay_count(b);
    o->x = lay_act(b, T * o->width);
    o->source = lay_ints(b, o->rows, 0, (int32_t)o->rows);
    for (int64_t r = 0; r < o->rows; r++)
        ((int32_t *)o->source)[r] = (int32_t)((r + 1) % o->rows);
    o->y = lay_act(b, o->rows * o->ldy);
    o->weight_in = b->form & 2 ? lay_f32(b, T * 2) : NULL;
    o->weight_out = b->form & 2 ? lay_f32(b, o->rows * o->ldw) : NULL;
}

static void lay_unpermute(struct bench *b, struct unpermute *o)
{
    int64_t T = b->n, rows = 2 * T;
    *o = OP(unpermute, .tokens = T, .rows = rows, .width = 6, .top_k = 2, .ldx = b->form & 1 ? 8 : 6, .ldw = 3,
            .type = b->w.type);
    o->x = lay_act(b, rows * o->ldx);
    o->position = lay_ints(b, T * 2, -1, (int32_t)rows);
    o->y = lay_act(b, T * o->width);
    o->weight_in = b->form & 2 ? lay_f32(b, rows * o->ldw) : NULL;
    o->weight_out = b->form & 2 ? lay_f32(b, T * 2) : NULL;
}

static void lay_arrivals(struct bench *b, struct arrivals *o)
{
    *o = OP(arrivals, .sources = 2, .experts = 3, .first = b->form & 1 ? 2 : 0, .rows = 9,
            .block = b->form & 2 ? 12 : 0, .arrived = lay_ints(b, 6, 0, 4), .row = lay_ints(b, 4, 50, 60),
            .to = lay_ints(b, 7, 50, 60), .from = lay_ints(b, 6, 50, 60));
}

static void lay_regroup(struct bench *b, struct regroup *o)
{
    int32_t n = (int32_t)b->n;
    *o = OP(regroup, .segments = 2, .rows = n + 2, .wire_rows = n + 3, .width = 6, .ld = 8, .ldw = 2,
            .back = b->form & 1, .type = b->w.type);
    o->to = lay_list(b, (int32_t[]){0, n / 2, n}, 3);
    o->from = lay_list(b, (int32_t[]){n - n / 2 + 1, 0}, 2);
    o->grouped = lay_act(b, o->rows * o->width);
    o->wire = lay_act(b, o->wire_rows * o->ld);
    o->weight = b->form & 2 ? lay_f32(b, o->rows) : NULL;
    o->wire_weight = lay_f32(b, o->wire_rows * o->ldw);
}

static void lay_sum_rows(struct bench *b, struct sum_rows *o)
{
    int64_t ldx = b->form & 1 ? 5 : 7, stride = b->n * ldx + (b->form & 2 ? 3 : 0);
    *o = OP(sum_rows, .rows = b->n, .width = 5, .parts = 3, .x = lay_act(b, 3 * stride), .stride = stride,
            .ldx = ldx, .y = lay_act(b, b->n * 8), .ldy = 8, .type = b->w.type);
}

static void lay_embedding(struct bench *b, struct embedding *o)
{
    *o = OP(embedding, .tokens = b->n, .width = 5, .first = 4, .count = 6, .token = lay_ints(b, b->n, 2, 11),
            .table = lay_act(b, 6 * 5), .y = lay_act(b, b->n * 5), .type = b->w.type);
}

static void lay_embedding_backward(struct bench *b, struct embedding_backward *o)
{
    *o = OP(embedding_backward, .tokens = b->n, .width = 5, .first = 4, .count = 6,
            .token = lay_ints(b, b->n, 2, 11), .dy = lay_act(b, b->n * 5), .d_table = lay_f32(b, 6 * 5),
            .type = b->w.type);
}

static void lay_softmax_stats(struct bench *b, struct softmax_stats *o)
{
    *o = OP(softmax_stats, .rows = b->n, .width = 7, .first = 7, .logits = lay_f32(b, b->n * 7),
            .target = lay_ints(b, b->n, 5, 16), .stats = lay_f32(b, b->n * 3));
}

static void lay_cross_entropy(struct bench *b, struct cross_entropy *o)
{
    *o = OP(cross_entropy, .rows = b->n, .width = 7, .first = 7, .parts = 2, .logits = lay_f32(b, b->n * 7),
            .stats = lay_f32(b, 2 * b->n * 3), .target = lay_ints(b, b->n, 7, 14), .scale = 0.5f,
            .loss = lay_f32(b, b->n), .type = b->w.type);
    o->dlogits = b->form & 1 ? NULL : b->form & 2 && o->type == F32 ? (void *)o->logits : lay_act(b, b->n * 7);
    for (int64_t i = 0; i < 2 * b->n; i++)
        ((float *)o->stats)[3 * i + 1] = 2; /* a sum of exponentials */
}

static void lay_total(struct bench *b, struct total *o)
{
    *o = OP(total, .count = b->n, .x = lay_f32(b, b->n), .y = b->form & 1 ? lay_f32(b, b->n) : NULL, .scale = 2,
            .out = lay_f64(b, 1));
}

static void lay_scale(struct bench *b, struct scale *o)
{
    *o = OP(scale, .count = b->n, .x = lay_f32(b, b->n), .scale = 3);
}

static struct update *lay_update(struct bench *b)
{
    struct update *u = place(b, sizeof *u);
    *u = (struct update){.lr = 0.125f, .correction1 = 0.5f, .correction2 = 0.25f, .grad_scale = 0.75f};
    return u;
}

static void lay_clip(struct bench *b, struct clip *o)
{
    double *loss = lay_f64(b, 1), *square = lay_f64(b, 1);
    *loss = INFINITY;
    *square = 4;
    *o = OP(clip, .square = square, .loss = loss, .limit = 0.5, .update = lay_update(b));
}

static void lay_adamw(struct bench *b, struct adamw *o)
{
    *o = OP(adamw, .count = b->n, .master = lay_f32(b, b->n), .m = lay_f32(b, b->n), .v = lay_f32(b, b->n),
            .grad = lay_f32(b, b->n), .param = b->form & 1 ? lay_act(b, b->n) : NULL, .update = lay_update(b),
            .beta1 = 0.5f, .beta2 = 0.75f, .eps = 0.125f, .decay = 0.25f, .type = b->w.type);
    for (int64_t i = 0; i < b->n; i++)
        o->v[i] = fabsf(o->v[i]);
}

static void lay_balance(struct bench *b, struct balance *o)
{
    *o = OP(balance, .layers = b->n, .experts = 4, .loads = lay_f32(b, b->n * 4), .bias = lay_f32(b, b->n * 4),
            .rate = 0.5, .update = lay_update(b));
}

static void lay_fill_normal(struct bench *b, struct fill_normal *o)
{
    *o = OP(fill_normal, .rows = b->n, .width = 5, .x = lay_act(b, b->n * 8), .ldx = 8, .seed = 7, .first = 3,
            .stride = 11, .mean = 1, .std = b->form & 1 ? 2 : 0, .type = b->w.type);
}

/* ---- all of them ---- */

struct example {
    const char *name;
    void (*lay)(struct bench *b); /* the operation and its tensors, and what it is said to touch */
    void (*run)(const struct bench *b);
};

#define X(name)                                                                                                \
    static void set_##name(struct bench *b)                                                                    \
    {                                                                                                          \
        lay_##name(b, &b->op.name);                                                                            \
        access_##name(&b->said, &b->op.name);                                                                  \
    }                                                                                                          \
    static void run_##name(const struct bench *b)                                                              \
    {                                                                                                          \
        b->w.be->name(NULL, &b->op.name);                                                                      \
    }
BACKEND_OPS(X)
#undef X

static const struct example examples[] = {
#define X(name) {#name, set_##name, run_##name},
    BACKEND_OPS(X)
#undef X
};

#endif
