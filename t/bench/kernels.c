/* SPDX-License-Identifier: MIT */
/* Speed of the operations that carry a training step: usage kernels [BACKEND|copy [THREADS]].
 * `copy` prints the GB/s of copying alone.
 * Products are also given as a share of the ceiling, a 2048-cube in tiles by oneDNN's sgemm, one tile a thread:
 * the best of a few measured right after the product, since a shared machine's speed drifts. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "base/error.h"
#include "base/num.h"
#include "base/process.h"

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

/* The shortest of some runs, in seconds. */
#define BEST(...)                                                                                              \
    ({                                                                                                         \
        double best = 1e9;                                                                                     \
        for (int i_ = 0; i_ < REPEATS; i_++) {                                                                 \
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

static void traffic(const char *what, enum type type, double bytes, double seconds)
{
    printf("%-5s %-34s %8.1f GB/s\n", type == F32 ? "f32" : "bf16", what, bytes * 1e-9 / seconds);
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
    products("  its dX", type, flops, BEST(be->matmul(stream, &dx)));
    struct matmul grad = OP(matmul, .m = out, .n = in, .k = rows, .ta = true, .a = y, .lda = out, .b = x,
                            .ldb = in, .c = dw, .ldc = in, .beta = 1, .in = type, .out = F32);
    products("  its dW", type, flops, BEST(be->matmul(stream, &grad)));
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

static void bench_attention(enum type type)
{
    enum { SEQ = 512, HEADS = 8, DIM = 64, WIDE = HEADS * DIM };
    void *t[8];
    for (int i = 0; i < 8; i++)
        t[i] = tensor(T * WIDE, type);
    float *lse = tensor(HEADS * T, F32), *delta = tensor(HEADS * T, F32);
    struct attention p = OP(attention, .sequences = T / SEQ, .seq = SEQ, .heads = HEADS, .kv_heads = HEADS,
                            .dim = DIM, .q = t[0], .k = t[1], .v = t[2], .ldq = WIDE, .ldk = WIDE, .ldv = WIDE,
                            .o = t[3], .ldo = WIDE, .lse = lse, .scale = 0.125f, .type = type);
    struct attention_backward b = OP(attention_backward, .fwd = p, .d_o = t[4], .lddo = WIDE, .dq = t[5],
                                     .dk = t[6], .dv = t[7], .delta = delta);
    double flops = 4.0 * T * SEQ / 2 * WIDE; /* of the part below the diagonal */
    products("attention, 4x512, 8 heads of 64", type, flops, BEST(be->attention(stream, &p)));
    products("attention_backward", type, 2.5 * flops, BEST(be->attention_backward(stream, &b)));
    for (int i = 0; i < 8; i++)
        be->free(t[i], T * WIDE * type_bytes(type));
    be->free(lse, HEADS * T * 4);
    be->free(delta, HEADS * T * 4);
}

/* Bytes read and written a second by a copy that leaves the caches: the ceiling of what computes little. */
static double find_copy(void)
{
    enum { ROWS = 1024, WIDTH = 16 * 1024 };
    void *x = tensor(ROWS * WIDTH, F32), *y = tensor(ROWS * WIDTH, F32);
    struct copy_rows copy =
        OP(copy_rows, .rows = ROWS, .width = WIDTH, .x = x, .ldx = WIDTH, .y = y, .ldy = WIDTH, .type = F32);
    double seconds = BEST(be->copy_rows(stream, &copy));
    be->free(x, 4ul * ROWS * WIDTH);
    be->free(y, 4ul * ROWS * WIDTH);
    return 8e-9 * ROWS * WIDTH / seconds;
}

static void bench_rows(enum type type)
{
    enum { ROWS = 4096, WIDTH = 1024, COUNT = ROWS * WIDTH };
    double size = (double)type_bytes(type) * COUNT;
    void *x = tensor(2 * COUNT, type), *y = tensor(COUNT, type), *dx = tensor(2 * COUNT, type),
         *w = tensor(8192, type);
    float *master = tensor(COUNT, F32), *m = tensor(COUNT, F32), *v = tensor(COUNT, F32),
          *dw = tensor(8192, F32);
    float *logits = tensor(1024 * V, F32), *stats = tensor(3 * 1024, F32), *loss = tensor(1024, F32);
    int32_t *target = be->alloc(1024 * sizeof *target);
    void *dlogits = tensor(1024 * V, type);
    traffic("swiglu", type, 3 * size,
            BEST(be->swiglu(stream,
                            &OP(swiglu, .rows = ROWS, .width = WIDTH, .gate_up = x, .y = y, .type = type))));
    traffic("swiglu_backward", type, 5 * size,
            BEST(be->swiglu_backward(stream, &OP(swiglu_backward, .rows = ROWS, .width = WIDTH, .gate_up = x,
                                                 .dy = y, .d_gate_up = dx, .type = type))));
    struct rmsnorm norm = OP(rmsnorm, .rows = T, .heads = 1, .width = H, .x = x, .ldx = H, .w = w, .y = y,
                             .ldy = H, .eps = 1e-5f, .type = type);
    traffic("rmsnorm", type, 2.0 * T * H * (double)type_bytes(type), BEST(be->rmsnorm(stream, &norm)));
    struct rmsnorm_backward back =
        OP(rmsnorm_backward, .rows = T, .heads = 1, .width = H, .x = x, .ldx = H, .w = w, .dy = y, .lddy = H,
           .dx = dx, .lddx = H, .dw = dw, .eps = 1e-5f, .type = type);
    traffic("rmsnorm_backward", type, 3.0 * T * H * (double)type_bytes(type),
            BEST(be->rmsnorm_backward(stream, &back)));
    traffic("add", type, 3 * size,
            BEST(be->add(stream, &OP(add, .count = COUNT, .a = x, .b = dx, .parts = 1, .y = y, .type = type))));
    be->zero(stream, v, COUNT * 4);
    struct update how = {.lr = 1e-3f, .correction1 = 0.1f, .correction2 = 0.05f, .grad_scale = 1};
    struct update *update = be->alloc(sizeof how);
    be->upload(stream, update, &how, sizeof how);
    struct adamw adam =
        OP(adamw, .count = COUNT, .master = master, .m = m, .v = v, .grad = logits, .param = y,
           .update = update, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .type = type);
    traffic("adamw", type, 28.0 * COUNT + size, BEST(be->adamw(stream, &adam)));
    be->free(update, sizeof how);
    traffic("softmax_stats", type, 4.0 * 1024 * V,
            BEST(be->softmax_stats(stream, &OP(softmax_stats, .rows = 1024, .width = V, .logits = logits,
                                               .target = target, .stats = stats))));
    struct cross_entropy ce =
        OP(cross_entropy, .rows = 1024, .width = V, .parts = 1, .logits = logits, .stats = stats,
           .target = target, .scale = 1, .loss = loss, .dlogits = dlogits, .type = type);
    traffic("cross_entropy", type, (4.0 + (double)type_bytes(type)) * 1024 * V,
            BEST(be->cross_entropy(stream, &ce)));
}

int main(int argc, char **argv)
{
    threads = argc > 2 ? atoi(argv[2]) : 2;
    bool copy = argc > 1 && strcmp(argv[1], "copy") == 0;
    be = backend_open(argc > 1 && !copy ? argv[1] : "cpu", 0, threads);
    if (!be) {
        fprintf(stderr, "kernels: %s\n", error_text());
        return error_status();
    }
    stream = be->stream_new();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (copy) {
        printf("%.1f\n", find_copy());
        return 0;
    }
    for (enum type type = F32; type <= BF16; type++) {
        bench_linear(type, T, H, 3 * H);
        bench_linear(type, T, H, H);
        bench_linear(type, T, H, V);
        bench_experts(type, H, 2048);
        bench_experts(type, 1024, H);
        bench_attention(type);
        bench_rows(type);
    }
    return 0;
}
