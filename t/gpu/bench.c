/* SPDX-License-Identifier: MIT */
/* usage: bench [-b BACKEND] [-t SECONDS] <SHAPES
 *        bench [-b BACKEND] -w
 *
 * Times operations of BACKEND (cuda) by events. A line of SHAPES is a name, a kind of the table below and its
 * sizes; peers.py reads the same lines. Prints NAME, seconds, FLOPs, bytes, with tabs between; bytes are those
 * that must be moved, each once. The best of five rounds, each of about SECONDS (0.02). -w: begins to use the
 * device as a rank does, says `ready`, and waits for the end of its input, so that what that holds of the
 * device's memory can be seen from outside. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "base/error.h"

enum { ROUNDS = 5, MOST = 200, TENSORS = 16 };

static const struct backend *be;
static struct stream *s;
static double round_s = 0.02;

/* ---- tensors, freed after each line ---- */

static struct {
    void *p;
    size_t bytes;
} tensors[TENSORS];
static int made;
static bool full; /* the device is */

static void *memory(size_t bytes)
{
    void *p = be->alloc(bytes);
    full = full || !p;
    if (p && made < TENSORS) {
        tensors[made].p = p;
        tensors[made++].bytes = bytes;
    }
    return p;
}

static void *tensor(int64_t rows, int64_t width, enum type type)
{
    void *p = memory((size_t)(rows * width) * type_bytes(type));
    if (p)
        be->fill_normal(s, &OP(fill_normal, .rows = rows, .width = width, .x = p, .ldx = width,
                               .seed = (uint64_t)made, .stride = width, .std = 0.5f, .type = type));
    return p;
}

static int32_t *ints(const int32_t *host, int64_t count)
{
    int32_t *p = memory((size_t)count * sizeof *host);
    if (p)
        be->upload(s, p, host, (size_t)count * sizeof *host);
    return p;
}

static void drop(void)
{
    be->sync(s);
    while (made > 0) {
        made--;
        be->free(tensors[made].p, tensors[made].bytes);
    }
}

/* ---- time ---- */

struct line {
    const char *name;
    int64_t n[6];
    int count;
};

typedef void timed(const void *op);

static double seconds_of(timed *run, const void *op, int times)
{
    static struct event *from, *to;
    if (!from) {
        from = be->event_new();
        to = be->event_new();
    }
    be->event_record(from, s);
    for (int i = 0; i < times; i++)
        run(op);
    be->event_record(to, s);
    return be->sync(s) < 0 ? NAN : be->elapsed(from, to);
}

/* Times run(op) and prints a line under the line's name and `suffix`. */
static void measure(const struct line *l, const char *suffix, double flops, double bytes, timed *run,
                    const void *op)
{
    if (full)
        return;
    double once = seconds_of(run, op, 1);
    once = fmin(once, seconds_of(run, op, 1));
    int times = (int)fmin(MOST, fmax(1, round_s / fmax(once, 1e-7)));
    double best = INFINITY;
    for (int i = 0; i < ROUNDS; i++)
        best = fmin(best, seconds_of(run, op, times) / times);
    if (!(best < INFINITY))
        fprintf(stderr, "bench: %s%s: %s\n", l->name, suffix, error_text());
    else
        printf("%s%s\t%.4g\t%.6g\t%.6g\n", l->name, suffix, best, flops, bytes);
    fflush(stdout);
}

#define TIMED(op)                                                                                              \
    static inline void run_##op(const void *p)                                                                 \
    {                                                                                                          \
        be->op(s, p);                                                                                          \
    }
BACKEND_OPS(TIMED)

/* ---- kinds ---- */

struct two {
    void *to, *from;
    size_t bytes;
};

static void run_copy(const void *p)
{
    const struct two *t = p;
    be->copy(s, t->to, t->from, t->bytes);
}

/* bytes */
static void bench_copy(const struct line *l)
{
    size_t bytes = (size_t)l->n[0];
    struct two t = {tensor(1, l->n[0] / 4, F32), tensor(1, l->n[0] / 4, F32), bytes};
    measure(l, "", 0, 2.0 * (double)bytes, run_copy, &t);
}

static void product(const struct line *l, enum type type)
{
    int64_t m = l->n[0], n = l->n[1], k = l->n[2];
    struct matmul p =
        OP(matmul, .m = m, .n = n, .k = k, .tb = true, .a = tensor(m, k, type), .lda = k,
           .b = tensor(n, k, type), .ldb = k, .c = tensor(m, n, type), .ldc = n, .in = type, .out = type);
    measure(l, "", 2.0 * (double)m * (double)n * (double)k,
            (double)(m * k + n * k + m * n) * (double)type_bytes(type), run_matmul, &p);
}

/* m n k */
static void bench_product(const struct line *l)
{
    product(l, BF16);
}
static void bench_product_f32(const struct line *l)
{
    product(l, F32);
}

/* experts rows n k power: expert e's rows end at rows·((e+1)/experts)^power */
static void bench_grouped(const struct line *l)
{
    static const char *const kinds[] = {" forward", " input", " weight"};
    int64_t E = l->n[0], rows = l->n[1], n = l->n[2], k = l->n[3];
    int32_t row[1025] = {0};
    if (E > 1024)
        return;
    for (int64_t e = 1; e <= E; e++)
        row[e] = (int32_t)llround((double)rows * pow((double)e / (double)E, (double)l->n[4]));
    struct grouped_matmul p = OP(grouped_matmul, .experts = E, .rows = rows, .row = ints(row, E + 1), .n = n,
                                 .k = k, .x = tensor(rows, k, BF16), .ldx = k, .y = tensor(rows, n, BF16),
                                 .ldy = n, .stride = n * k, .type = BF16);
    void *w = tensor(E * n, k, BF16);
    float *dw = tensor(E * n, k, F32);
    for (int kind = GROUPED_FORWARD; kind <= GROUPED_WEIGHT; kind++) {
        p.kind = kind;
        p.beta = kind == GROUPED_WEIGHT;
        p.w = kind == GROUPED_WEIGHT ? (void *)dw : w;
        double bytes =
            2.0 * (double)(rows * (n + k)) + (kind == GROUPED_WEIGHT ? 8.0 : 2.0) * (double)(E * n * k);
        measure(l, kinds[kind], 2.0 * (double)rows * (double)n * (double)k, bytes, run_grouped_matmul, &p);
    }
}

static void attention(const struct line *l, enum type type)
{
    int64_t sequences = l->n[0], seq = l->n[1], heads = l->n[2], kv = l->n[3], dim = l->n[4];
    int64_t rows = sequences * seq, wide = heads * dim, narrow = kv * dim;
    struct attention p =
        OP(attention, .sequences = sequences, .seq = seq, .heads = heads, .kv_heads = kv, .dim = dim,
           .q = tensor(rows, wide, type), .k = tensor(rows, narrow, type), .v = tensor(rows, narrow, type),
           .ldq = wide, .ldk = narrow, .ldv = narrow, .o = tensor(rows, wide, type), .ldo = wide,
           .lse = tensor(rows, heads, F32), .scale = (float)(1 / sqrt((double)dim)), .type = type);
    double flops = 4.0 * (double)rows * (double)seq / 2 * (double)wide; /* below the diagonal */
    double each = (double)type_bytes(type) * (double)rows;
    measure(l, " forward", flops, each * 2 * (double)(wide + narrow), run_attention, &p);
    struct attention_backward b =
        OP(attention_backward, .fwd = p, .d_o = tensor(rows, wide, type), .lddo = wide,
           .dq = tensor(rows, wide, type), .dk = tensor(rows, narrow, type), .dv = tensor(rows, narrow, type),
           .delta = tensor(rows, heads, F32));
    measure(l, " backward", 2.5 * flops, each * 4 * (double)(wide + narrow), run_attention_backward, &b);
}

/* sequences seq heads kv_heads dim */
static void bench_attention(const struct line *l)
{
    attention(l, BF16);
}
static void bench_attention_f32(const struct line *l)
{
    attention(l, F32);
}

/* rows width */
static void bench_norm(const struct line *l)
{
    int64_t rows = l->n[0], n = l->n[1];
    double size = 2.0 * (double)(rows * n);
    void *x = tensor(rows, n, BF16), *w = tensor(1, n, BF16), *y = tensor(rows, n, BF16),
         *dx = tensor(rows, n, BF16);
    float *dw = tensor(1, n, F32);
    struct rmsnorm p = OP(rmsnorm, .rows = rows, .heads = 1, .width = n, .x = x, .ldx = n, .w = w, .y = y,
                          .ldy = n, .eps = 1e-5f, .type = BF16);
    measure(l, " forward", 0, 2 * size, run_rmsnorm, &p);
    struct rmsnorm_backward b =
        OP(rmsnorm_backward, .rows = rows, .heads = 1, .width = n, .x = x, .ldx = n, .w = w, .dy = y, .lddy = n,
           .dx = dx, .lddx = n, .dw = dw, .eps = 1e-5f, .type = BF16);
    measure(l, " backward", 0, 3 * size, run_rmsnorm_backward, &b);
}

/* rows width */
static void bench_swiglu(const struct line *l)
{
    int64_t rows = l->n[0], n = l->n[1];
    double size = 2.0 * (double)(rows * n);
    void *gate_up = tensor(rows, 2 * n, BF16), *y = tensor(rows, n, BF16), *d = tensor(rows, 2 * n, BF16);
    struct swiglu p = OP(swiglu, .rows = rows, .width = n, .gate_up = gate_up, .y = y, .type = BF16);
    measure(l, " forward", 0, 3 * size, run_swiglu, &p);
    struct swiglu_backward b = OP(swiglu_backward, .rows = rows, .width = n, .gate_up = gate_up, .dy = y,
                                  .d_gate_up = d, .type = BF16);
    measure(l, " backward", 0, 5 * size, run_swiglu_backward, &b);
}

/* rows width: sums, and a change of type */
static void bench_add(const struct line *l)
{
    int64_t rows = l->n[0], n = l->n[1];
    double size = 2.0 * (double)(rows * n);
    void *a = tensor(rows, n, BF16), *b = tensor(rows, n, BF16), *y = tensor(rows, n, BF16);
    float *f = tensor(rows, n, F32);
    struct add p = OP(add, .count = rows * n, .a = a, .b = b, .y = y, .type = BF16);
    measure(l, "", 0, 3 * size, run_add, &p);
    struct convert c = OP(convert, .count = rows * n, .x = f, .y = y, .from = F32, .to = BF16, .scale = 1);
    measure(l, " convert", 0, 3 * size, run_convert, &c);
}

/* rows seq heads dim */
static void bench_rope(const struct line *l)
{
    int64_t rows = l->n[0], seq = l->n[1], heads = l->n[2], dim = l->n[3];
    struct rope p = OP(rope, .rows = rows, .seq = seq, .heads = heads, .head_dim = dim, .rotary = dim,
                       .x = tensor(rows, heads * dim, BF16), .ld = heads * dim,
                       .cos_sin = tensor(seq, dim, F32), .type = BF16);
    measure(l, "", 0, 4.0 * (double)(rows * heads * dim), run_rope, &p);
}

/* tokens width top_k: rows to the experts and back */
static void bench_permute(const struct line *l)
{
    int64_t T = l->n[0], n = l->n[1], K = l->n[2], rows = T * K;
    int32_t *host = malloc((size_t)rows * sizeof *host);
    for (int64_t r = 0; host && r < rows; r++)
        host[r] = (int32_t)(r * 1000003 % rows);
    int32_t *at = host ? ints(host, rows) : NULL;
    free(host);
    void *x = tensor(T, n, BF16), *y = tensor(rows, n, BF16);
    struct permute p = OP(permute, .tokens = T, .rows = rows, .width = n, .top_k = K, .x = x, .source = at,
                          .y = y, .ldy = n, .type = BF16);
    measure(l, " out", 0, 2.0 * (double)((T + rows) * n), run_permute, &p);
    struct unpermute u = OP(unpermute, .tokens = T, .rows = rows, .width = n, .top_k = K, .x = y, .ldx = n,
                            .position = at, .y = x, .type = BF16);
    measure(l, " back", 0, 2.0 * (double)((T + rows) * n), run_unpermute, &u);
}

/* tokens experts top_k: choosing and sorting */
static void bench_router(const struct line *l)
{
    int64_t T = l->n[0], E = l->n[1], K = l->n[2];
    struct router p = OP(router, .tokens = T, .experts = E, .top_k = K, .renormalise = true, .scale = 1,
                         .logits = tensor(T, E, F32), .scores = tensor(T, E, F32), .lse = tensor(T, 1, F32),
                         .topk = (int32_t *)tensor(T, K, F32), .weight = tensor(T, K, F32));
    measure(l, " choose", 0, 8.0 * (double)(T * (E + K)), run_router, &p);
    struct sort_choices o =
        OP(sort_choices, .tokens = T, .experts = E, .top_k = K, .topk = p.topk,
           .count = (int32_t *)tensor(E, 1, F32), .first = (int32_t *)tensor(E + 1, 1, F32),
           .position = (int32_t *)tensor(T, K, F32), .source = (int32_t *)tensor(T, K, F32));
    measure(l, " sort", 0, 12.0 * (double)(T * K), run_sort_choices, &o);
}

/* rows vocabulary */
static void bench_loss(const struct line *l)
{
    int64_t rows = l->n[0], V = l->n[1];
    int32_t *host = calloc((size_t)rows, sizeof *host), *target = host ? ints(host, rows) : NULL;
    free(host);
    float *logits = tensor(rows, V, F32), *stats = tensor(rows, 3, F32);
    struct softmax_stats p =
        OP(softmax_stats, .rows = rows, .width = V, .logits = logits, .target = target, .stats = stats);
    measure(l, " stats", 0, 4.0 * (double)(rows * V), run_softmax_stats, &p);
    struct cross_entropy c = OP(cross_entropy, .rows = rows, .width = V, .parts = 1, .logits = logits,
                                .stats = stats, .target = target, .scale = 1, .loss = tensor(rows, 1, F32),
                                .dlogits = tensor(rows, V, BF16), .type = BF16);
    measure(l, " gradient", 0, 6.0 * (double)(rows * V), run_cross_entropy, &c);
}

/* parameters */
static void bench_adamw(const struct line *l)
{
    int64_t n = l->n[0];
    struct update how = {.lr = 1e-3f, .correction1 = 0.1f, .correction2 = 0.05f, .grad_scale = 1};
    struct update *update = memory(sizeof how);
    if (update)
        be->upload(s, update, &how, sizeof how);
    float *v = tensor(1, n, F32);
    if (v)
        be->zero(s, v, (size_t)n * sizeof *v);
    struct adamw p = OP(adamw, .count = n, .master = tensor(1, n, F32), .m = tensor(1, n, F32), .v = v,
                        .grad = tensor(1, n, F32), .param = tensor(1, n, BF16), .update = update, .beta1 = 0.9f,
                        .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .type = BF16);
    measure(l, "", 0, 30.0 * (double)n, run_adamw, &p);
    struct total t = OP(total, .count = n, .x = p.grad, .y = p.grad, .scale = 1, .out = memory(sizeof(double)));
    measure(l, " norm", 0, 4.0 * (double)n, run_total, &t);
}

static const struct {
    const char *name;
    void (*run)(const struct line *l);
    int sizes;
} kinds[] = {
    {"copy", bench_copy, 1},       {"product", bench_product, 3},     {"product-f32", bench_product_f32, 3},
    {"grouped", bench_grouped, 5}, {"attention", bench_attention, 5}, {"attention-f32", bench_attention_f32, 5},
    {"norm", bench_norm, 2},       {"swiglu", bench_swiglu, 2},       {"add", bench_add, 2},
    {"rope", bench_rope, 4},       {"permute", bench_permute, 3},     {"router", bench_router, 3},
    {"loss", bench_loss, 2},       {"adamw", bench_adamw, 1}};

/* One line of the input; 0, or what the command ends with. */
static int bench_line(char *text)
{
    struct line l = {.name = strtok(text, " \t\n")};
    const char *kind = strtok(NULL, " \t\n"), *size;
    if (!l.name || *l.name == '#')
        return STATUS_DONE;
    while (l.count < 6 && (size = strtok(NULL, " \t\n")))
        l.n[l.count++] = strtoll(size, NULL, 10);
    for (size_t i = 0; kind && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, kind) == 0 && kinds[i].sizes == l.count) {
            full = false;
            kinds[i].run(&l);
            drop();
            if (full)
                fprintf(stderr, "bench: %s: %s\n", l.name, error_text());
            return full ? STATUS_NO : STATUS_DONE;
        }
    fprintf(stderr, "bench: '%s': no such kind, or other sizes\n", l.name);
    return STATUS_USAGE;
}

/* What a rank holds without its arena: context, module, the library, scratch. */
static int wait_for_end(void)
{
    struct line l = {.name = "begin", .n = {256, 256, 256}};
    round_s = 0;
    product(&l, BF16);
    drop();
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return STATUS_DONE;
}

int main(int argc, char **argv)
{
    const char *name = "cuda";
    bool wait = false;
    int c, status = STATUS_DONE;
    while ((c = getopt(argc, argv, "b:t:w")) != -1)
        switch (c) {
        case 'b':
            name = optarg;
            break;
        case 't':
            round_s = atof(optarg);
            break;
        case 'w':
            wait = true;
            break;
        default:
            return STATUS_USAGE;
        }
    be = backend_open(name, 0, (int)sysconf(_SC_NPROCESSORS_ONLN));
    if (!be) {
        fprintf(stderr, "bench: %s\n", error_text());
        return error_status();
    }
    s = be->stream_new();
    if (wait)
        return wait_for_end();
    char text[256];
    while (fgets(text, sizeof text, stdin)) {
        int was = bench_line(text);
        status = was > status ? was : status;
    }
    return status;
}
