/* SPDX-License-Identifier: MIT */
/* Speed of the operations that carry a training step: usage kernels [BACKEND|copy|exp [THREADS [GROUP]]], with
 * GROUP one of products, attention, tokens, routed and loss; without it all. `copy` prints the GB/s of copying
 * alone, `exp` the exponentials a nanosecond of the cpu backend's own.
 * Products are also given as a share of the ceiling, a 2048-cube in tiles by oneDNN's sgemm, one tile a thread;
 * attention as a share of the bound that this, or in bf16 the same cube by the backend, and its exponentials
 * set, with rows as a step has them, q, k and v of a token together, and once more `cold`, when no cache has
 * them; all others as a share of what copy_rows reaches with as many bytes. Each is the best of a few
 * measured right after the operation, since a shared machine's speed drifts. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "base/error.h"
#include "base/num.h"
#include "base/process.h"
#include "cpu/piece.h"

enum { REPEATS = 15, T = 2048, H = 512, V = 8192, EXPERTS = 16 };

static const struct backend *be;
static struct stream *stream;
static int threads;

static void *tensor(int64_t count, enum type type)
{
    void *p = be->alloc((size_t)count * type_bytes(type));
    if (!p) {
        fprintf(stderr, "kernels: %s\n", error_text());
        exit(STATUS_ENV);
    }
    struct fill_normal fill = OP(fill_normal, .rows = ceil_div(count, 4096), .width = 4096, .x = p, .ldx = 4096,
                                 .seed = 1, .stride = 4096, .std = 0.5f, .type = type);
    if (count % 4096)
        fill = OP(fill_normal, .rows = 1, .width = count, .x = p, .ldx = count, .seed = 1, .stride = count,
                  .std = 0.5f, .type = type);
    be->fill_normal(stream, &fill);
    return p;
}

/* The shortest of some runs, in seconds, and of some that `before` goes before. */
#define BEST(...) BEST_AFTER((void)0, __VA_ARGS__)
#define BEST_AFTER(before, ...)                                                                                \
    ({                                                                                                         \
        double best = 1e9;                                                                                     \
        for (int i_ = 0; i_ < REPEATS; i_++) {                                                                 \
            before;                                                                                            \
            be->sync(stream);                                                                                  \
            double start = now_s();                                                                            \
            __VA_ARGS__;                                                                                       \
            be->sync(stream);                                                                                  \
            double took = now_s() - start;                                                                     \
            best = took < best ? took : best;                                                                  \
        }                                                                                                      \
        best;                                                                                                  \
    })

enum { CUBE = 2048, TILE = 512 };

static float *cube_a, *cube_b, *cube_c;

static void cube(void)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int t = 0; t < CUBE / TILE * (CUBE / TILE); t++) {
        int64_t i = t / (CUBE / TILE) * TILE, j = t % (CUBE / TILE) * TILE;
        dnnl_sgemm('N', 'T', TILE, TILE, CUBE, 1, cube_a + i * CUBE, CUBE, cube_b + j * CUBE, CUBE, 0,
                   cube_c + i * CUBE + j, CUBE);
    }
}

static double find_ceiling(void)
{
    if (!cube_a) {
        cube_a = tensor(CUBE * CUBE, F32);
        cube_b = tensor(CUBE * CUBE, F32);
        cube_c = tensor(CUBE * CUBE, F32);
    }
    double best = 1e9;
    for (int i = 0; i < 4; i++) {
        double start = now_s();
        cube();
        best = now_s() - start < best ? now_s() - start : best;
    }
    return 2e-9 * CUBE * CUBE * CUBE / best;
}

static void products(const char *what, enum type type, double flops, double seconds)
{
    double speed = flops * 1e-9 / seconds, ceiling = find_ceiling();
    printf("%-5s %-34s %8.1f GFLOP/s %5.0f %% of %.0f\n", type == F32 ? "f32" : "bf16", what, speed,
           100 * speed / ceiling, ceiling);
}

/* The same cube in bf16, in whatever way the backend has. */
static double find_bf16_ceiling(void)
{
    static void *a, *b;
    if (!a) {
        a = tensor(CUBE * CUBE, BF16);
        b = tensor(CUBE * CUBE, BF16);
    }
    struct matmul p = OP(matmul, .m = CUBE, .n = CUBE, .k = CUBE, .tb = true, .a = a, .lda = CUBE, .b = b,
                         .ldb = CUBE, .c = cube_c, .ldc = CUBE, .in = BF16, .out = F32);
    return 2e-9 * CUBE * CUBE * CUBE / BEST(be->matmul(stream, &p));
}

enum { POWERS = 2048, PASSES = 512 };

HOT static void powers(float *x)
{
#pragma omp simd
    for (int i = 0; i < POWERS; i++)
        x[i] = exp2_fast(-x[i]);
}

/* Exponentials a nanosecond of all threads, within their caches. */
static double find_exponentials(void)
{
    double seconds = 0;
#pragma omp parallel num_threads(threads) reduction(max : seconds)
    {
        float x[POWERS];
        for (int i = 0; i < POWERS; i++)
            x[i] = (float)i / POWERS;
        seconds = BEST(for (int pass = 0; pass < PASSES; pass++) powers(x));
    }
    return 1e-9 * POWERS * PASSES * threads / seconds;
}

/* Pairs of a query and a key that it sees, each with an exponential and so many operations. */
static void attended(const char *what, enum type type, double pairs, double flops, double seconds)
{
    double f32 = find_ceiling(), ceiling = type == F32 ? f32 : find_bf16_ceiling(),
           exponentials = find_exponentials();
    double bound = pairs * (flops / ceiling + 1 / exponentials) * 1e-9;
    printf("%-5s %-34s %8.1f GFLOP/s %5.0f %% of %.0f, from %.0f and %.1f exponentials a ns\n",
           type == F32 ? "f32" : "bf16", what, pairs * flops * 1e-9 / seconds, 100 * bound / seconds,
           pairs * flops * 1e-9 / bound, ceiling, exponentials);
}

/* Bytes read and written a second by a copy of `bytes` altogether, in rows of 4 KiB. */
static double find_copy(double bytes)
{
    enum { WIDTH = 1024, MOST = 20 * 1024 };
    static float *x, *y;
    int64_t rows = (int64_t)(bytes / 8 / WIDTH);
    rows = rows < MOST ? rows : MOST;
    if (!x) {
        x = tensor(MOST * WIDTH, F32);
        y = tensor(MOST * WIDTH, F32);
    }
    struct copy_rows copy =
        OP(copy_rows, .rows = rows, .width = WIDTH, .x = x, .ldx = WIDTH, .y = y, .ldy = WIDTH, .type = F32);
    double seconds = BEST(be->copy_rows(stream, &copy));
    return 8e-9 * (double)(rows * WIDTH) / seconds;
}

static void traffic(const char *what, enum type type, double bytes, double seconds)
{
    double speed = bytes * 1e-9 / seconds, copy = find_copy(bytes);
    printf("%-5s %-34s %8.1f GB/s    %5.0f %% of %.0f\n", type == F32 ? "f32" : "bf16", what, speed,
           100 * speed / copy, copy);
}

static void bench_linear(enum type type, int64_t rows, int64_t in, int64_t out)
{
    void *x = tensor(rows * in, type), *w = tensor(in * out, type), *y = tensor(rows * out, type);
    float *dw = tensor(in * out, F32), *f = tensor(rows * out, F32);
    double flops = 2.0 * (double)rows * (double)in * (double)out;
    char name[64];
    snprintf(name, sizeof name, "[%d,%d]x[%d,%d]", (int)rows, (int)in, (int)in, (int)out);
    struct matmul forward = OP(matmul, .m = rows, .n = out, .k = in, .tb = true, .a = x, .lda = in, .b = w,
                               .ldb = in, .c = y, .ldc = out, .in = type, .out = type);
    if (out == V) { /* logits are f32 */
        forward.c = f;
        forward.out = F32;
    }
    products(name, type, flops, BEST(be->matmul(stream, &forward)));
    struct matmul dx = OP(matmul, .m = rows, .n = in, .k = out, .a = y, .lda = out, .b = w, .ldb = in, .c = x,
                          .ldc = in, .in = type, .out = type);
    snprintf(name, sizeof name, "[%d,%d]x[%d,%d] dX", (int)rows, (int)in, (int)in, (int)out);
    products(name, type, flops, BEST(be->matmul(stream, &dx)));
    struct matmul grad = OP(matmul, .m = out, .n = in, .k = rows, .ta = true, .a = y, .lda = out, .b = x,
                            .ldb = in, .c = dw, .ldc = in, .beta = 1, .in = type, .out = F32);
    snprintf(name, sizeof name, "[%d,%d]x[%d,%d] dW", (int)rows, (int)in, (int)in, (int)out);
    products(name, type, flops, BEST(be->matmul(stream, &grad)));
    be->free(x, (size_t)(rows * in) * type_bytes(type));
    be->free(w, (size_t)(in * out) * type_bytes(type));
    be->free(y, (size_t)(rows * out) * type_bytes(type));
    be->free(dw, (size_t)(in * out) * 4);
    be->free(f, (size_t)(rows * out) * 4);
}

static void bench_experts(enum type type, int64_t k, int64_t n)
{
    static const char *const names[] = {"forward", "input", "weight"};
    int32_t host[EXPERTS + 1] = {0};
    for (int e = 0; e < EXPERTS; e++) /* about 256 rows each, as routing leaves them */
        host[e + 1] = host[e] + 256 + (e * 37 % EXPERTS - 8) * 9;
    int64_t rows = host[EXPERTS];
    int32_t *row = tensor(EXPERTS + 1, F32);
    be->upload(stream, row, host, sizeof host);
    void *x = tensor(rows * k, type), *y = tensor(rows * n, type), *w = tensor(EXPERTS * n * k, type);
    float *dw = tensor(EXPERTS * n * k, F32);
    for (int kind = GROUPED_FORWARD; kind <= GROUPED_WEIGHT; kind++) {
        char name[64];
        struct grouped_matmul p = OP(grouped_matmul, .kind = kind, .experts = EXPERTS, .rows = rows, .row = row,
                                     .n = n, .k = k, .x = x, .ldx = k, .y = y, .ldy = n,
                                     .w = kind == GROUPED_WEIGHT ? dw : w, .stride = n * k, .type = type);
        snprintf(name, sizeof name, "%d experts %s k=%d n=%d", EXPERTS, names[kind], (int)k, (int)n);
        products(name, type, 2.0 * (double)(rows * n * k), BEST(be->grouped_matmul(stream, &p)));
    }
    be->free(x, (size_t)(rows * k) * type_bytes(type));
    be->free(y, (size_t)(rows * n) * type_bytes(type));
    be->free(w, (size_t)(EXPERTS * n * k) * type_bytes(type));
    be->free(dw, (size_t)(EXPERTS * n * k) * 4);
    be->free(row, sizeof host);
}

static void bench_products(enum type type)
{
    bench_linear(type, T, H, 3 * H);
    bench_linear(type, T, H, H);
    bench_linear(type, T, H, V);
    bench_experts(type, H, 2048);
    bench_experts(type, 1024, H);
}

/* Takes all caches. */
static void sweep(void)
{
    enum { COUNT = 32 << 20 };
    static float *x;
    if (!x)
        x = tensor(COUNT, F32);
    be->scale(stream, &OP(scale, .count = COUNT, .x = x, .scale = 1));
}

static void bench_attention(enum type type)
{
    enum { SEQ = 512, HEADS = 8, DIM = 64, WIDE = HEADS * DIM, FUSED = 3 * WIDE };
    void *qkv = tensor(T * FUSED, type), *dqkv = tensor(T * FUSED, type), *o = tensor(T * WIDE, type),
         *d_o = tensor(T * WIDE, type);
    float *lse = tensor(HEADS * T, F32), *delta = tensor(HEADS * T, F32);
    struct attention p =
        OP(attention, .sequences = T / SEQ, .seq = SEQ, .heads = HEADS, .kv_heads = HEADS, .dim = DIM, .q = qkv,
           .k = at(qkv, WIDE, type), .v = at(qkv, 2 * WIDE, type), .ldq = FUSED, .ldk = FUSED, .ldv = FUSED,
           .o = o, .ldo = WIDE, .lse = lse, .scale = 0.125f, .type = type);
    struct attention_backward b =
        OP(attention_backward, .fwd = p, .d_o = d_o, .lddo = WIDE, .dq = dqkv, .dk = at(dqkv, WIDE, type),
           .dv = at(dqkv, 2 * WIDE, type), .delta = delta);
    double pairs = (double)T * HEADS * (SEQ + 1) / 2;
    attended("attention, 4x512, 8 heads of 64", type, pairs, 4 * DIM, BEST(be->attention(stream, &p)));
    attended("attention, cold", type, pairs, 4 * DIM, BEST_AFTER(sweep(), be->attention(stream, &p)));
    attended("attention_backward", type, pairs, 10 * DIM, BEST(be->attention_backward(stream, &b)));
    attended("attention_backward, cold", type, pairs, 10 * DIM,
             BEST_AFTER(sweep(), be->attention_backward(stream, &b)));
    be->free(qkv, T * FUSED * type_bytes(type));
    be->free(dqkv, T * FUSED * type_bytes(type));
    be->free(o, T * WIDE * type_bytes(type));
    be->free(d_o, T * WIDE * type_bytes(type));
    be->free(lse, HEADS * T * 4);
    be->free(delta, HEADS * T * 4);
}

/* What a layer does to its tokens, [T, H], besides products. */
static void bench_tokens(enum type type)
{
    enum { HEADS = 8, DIM = H / HEADS, SEQ = 512, WIDE = 3 * H };
    double size = (double)type_bytes(type) * T * H;
    void *x = tensor(T * WIDE, type), *y = tensor(T * H, type), *dx = tensor(T * H, type), *w = tensor(H, type);
    float *dw = tensor(H, F32), *angles = tensor(SEQ * DIM, F32);
    struct rmsnorm norm = OP(rmsnorm, .rows = T, .heads = 1, .width = H, .x = x, .ldx = H, .w = w, .y = y,
                             .ldy = H, .eps = 1e-5f, .type = type);
    traffic("rmsnorm", type, 2 * size, BEST(be->rmsnorm(stream, &norm)));
    struct rmsnorm_backward back =
        OP(rmsnorm_backward, .rows = T, .heads = 1, .width = H, .x = x, .ldx = H, .w = w, .dy = y, .lddy = H,
           .dx = dx, .lddx = H, .dw = dw, .accumulate = true, .eps = 1e-5f, .type = type);
    traffic("rmsnorm_backward", type, 4 * size, BEST(be->rmsnorm_backward(stream, &back)));
    struct rope rope = OP(rope, .rows = T, .seq = SEQ, .heads = HEADS, .head_dim = DIM, .rotary = DIM, .x = x,
                          .ld = WIDE, .cos_sin = angles, .type = type);
    traffic("rope", type, 2 * size, BEST(be->rope(stream, &rope)));
    traffic("add", type, 3 * size,
            BEST(be->add(stream, &OP(add, .count = T * H, .a = x, .b = dx, .y = y, .type = type))));
    be->free(x, 3 * (size_t)size);
    be->free(y, (size_t)size);
    be->free(dx, (size_t)size);
}

/* What the experts' layer does to their rows, [2T, F], besides products. */
static void bench_routed(enum type type)
{
    enum { ROWS = 2 * T, F = 1024 };
    double row = (double)type_bytes(type) * H, size = (double)type_bytes(type) * ROWS * F;
    void *x = tensor(ROWS * H, type), *y = tensor(T * H, type);
    void *gate_up = tensor(2 * ROWS * F, type), *act = tensor(ROWS * F, type),
         *grad = tensor(2 * ROWS * F, type);
    float *weight = tensor(ROWS, F32), *d_weight = tensor(ROWS, F32);
    int32_t host[ROWS], *position = be->alloc(sizeof host);
    for (int i = 0; i < ROWS; i++)
        host[i] = (int32_t)((int64_t)i * 1543 % ROWS); /* 1543 is odd: each row once */
    be->upload(stream, position, host, sizeof host);
    traffic("permute", type, 2 * ROWS * row,
            BEST(be->permute(stream, &OP(permute, .tokens = T, .rows = ROWS, .width = H, .top_k = 2, .x = y,
                                         .source = position, .y = x, .ldy = H, .type = type))));
    traffic("unpermute", type, (ROWS + T) * row,
            BEST(be->unpermute(stream, &OP(unpermute, .tokens = T, .rows = ROWS, .width = H, .top_k = 2, .x = x,
                                           .ldx = H, .position = position, .y = y, .type = type))));
    traffic("swiglu", type, 3 * size,
            BEST(be->swiglu(stream, &OP(swiglu, .rows = ROWS, .width = F, .gate_up = gate_up, .weight = weight,
                                        .y = act, .type = type))));
    struct swiglu_backward back =
        OP(swiglu_backward, .rows = ROWS, .width = F, .gate_up = gate_up, .weight = weight, .dy = act,
           .d_gate_up = grad, .d_weight = d_weight, .type = type);
    traffic("swiglu_backward", type, 5 * size, BEST(be->swiglu_backward(stream, &back)));
    be->free(x, (size_t)(ROWS * row));
    be->free(y, (size_t)(T * row));
    be->free(gate_up, 2 * (size_t)size);
    be->free(act, (size_t)size);
    be->free(grad, 2 * (size_t)size);
}

/* The loss over a vocabulary, and the update of as many weights. */
static void bench_loss(enum type type)
{
    enum { ROWS = 1024, COUNT = 4 << 20 };
    double size = (double)type_bytes(type);
    float *logits = tensor(ROWS * V, F32), *stats = tensor(3 * ROWS, F32), *loss = tensor(ROWS, F32);
    float *master = tensor(COUNT, F32), *m = tensor(COUNT, F32), *v = be->alloc(COUNT * 4ul);
    int32_t *target = be->alloc(ROWS * sizeof *target);
    void *out = tensor(ROWS * V, type);
    be->zero(stream, target, ROWS * sizeof *target);
    be->zero(stream, v, COUNT * 4ul);
    traffic("softmax_stats", type, 4.0 * ROWS * V,
            BEST(be->softmax_stats(stream, &OP(softmax_stats, .rows = ROWS, .width = V, .logits = logits,
                                               .target = target, .stats = stats))));
    struct cross_entropy ce =
        OP(cross_entropy, .rows = ROWS, .width = V, .parts = 1, .logits = logits, .stats = stats,
           .target = target, .scale = 1, .loss = loss, .dlogits = out, .type = type);
    traffic("cross_entropy", type, (4 + size) * ROWS * V, BEST(be->cross_entropy(stream, &ce)));
    struct update how = {.lr = 1e-3f, .correction1 = 0.1f, .correction2 = 0.05f, .grad_scale = 1};
    struct update *update = be->alloc(sizeof how);
    be->upload(stream, update, &how, sizeof how);
    struct adamw adam =
        OP(adamw, .count = COUNT, .master = master, .m = m, .v = v, .grad = logits, .param = out,
           .update = update, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .type = type);
    traffic("adamw", type, (28 + size) * COUNT, BEST(be->adamw(stream, &adam)));
    be->free(logits, 4ul * ROWS * V);
    be->free(out, (size_t)size * ROWS * V);
    be->free(master, COUNT * 4ul);
    be->free(m, COUNT * 4ul);
    be->free(v, COUNT * 4ul);
}

int main(int argc, char **argv)
{
    threads = argc > 2 ? atoi(argv[2]) : 2;
    const char *what = argc > 1 ? argv[1] : "cpu";
    bool copy = strcmp(what, "copy") == 0, exponentials = strcmp(what, "exp") == 0;
    be = backend_open(copy || exponentials ? "cpu" : what, 0, threads);
    if (!be) {
        fprintf(stderr, "kernels: %s\n", error_text());
        return error_status();
    }
    stream = be->stream_new();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (copy || exponentials) {
        printf("%.1f\n", copy ? find_copy(1e9) : find_exponentials());
        return 0;
    }
    static void (*const group[])(enum type) = {bench_products, bench_attention, bench_tokens, bench_routed,
                                               bench_loss};
    static const char *const names[] = {"products", "attention", "tokens", "routed", "loss"};
    for (enum type type = F32; type <= BF16; type++)
        for (int i = 0; i < 5; i++)
            if (argc < 4 || strcmp(argv[3], names[i]) == 0)
                group[i](type);
    return 0;
}
