/* SPDX-License-Identifier: MIT */
#include "probe/bench.h"

#include <stdlib.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/halt.h"
#include "base/num.h"
#include "base/process.h"
#include "comm/host.h"

enum {
    FILLED =
        8
        << 20, /* bytes with random numbers, from where products read; the rest is zeros, which move as well */
    SCRATCH = 8 << 20, /* as a plan's: sums go through it */
    SAMPLES = 4096,
};
#define SAMPLE_S 1e-3

int bench_open(struct bench *b, struct comm *c, const struct backend *be, size_t bytes)
{
    *b = (struct bench){.comm = c, .be = be, .s = be->stream_new(), .bytes = bytes};
    b->memory = be->alloc(bytes + SCRATCH);
    if (!b->memory)
        return -1;
    comm_set_scratch(c, b->memory + bytes, SCRATCH);
    int64_t filled = (be->device ? (int64_t)bytes : min64(FILLED, (int64_t)bytes)) / 4096;
    be->zero(b->s, b->memory, bytes + SCRATCH);
    be->fill_normal(b->s, &OP(fill_normal, .rows = filled, .width = 1024, .x = b->memory, .ldx = 1024,
                              .seed = 1, .stride = 1024, .std = 0.5f, .type = F32));
    return be->sync(b->s);
}

void bench_close(struct bench *b)
{
    if (b->memory) {
        comm_set_scratch(b->comm, NULL, 0);
        b->be->free(b->memory, b->bytes + SCRATCH);
    }
    if (b->s)
        b->be->stream_free(b->s);
    *b = (struct bench){0};
}

/* ---- timing ---- */

int bench_wait(struct group *g)
{
    int64_t nothing = 0;
    return host_max(g, &nothing);
}

static int sample(const struct bench *b, bench_work *work, const void *what, int repeats, double *s)
{
    double start = now_s();
    for (int i = 0; i < repeats; i++)
        work(b, what);
    TRY(b->be->sync(b->s));
    halt_slow("bench", now_s() - start);
    *s = now_s() - start;
    alive();
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int bench_time(const struct bench *b, bench_work *work, const void *what, double window_s, struct timing *t)
{
    static double each[SAMPLES];
    double start, took = 0, s;
    int repeats = 1;
    *t = (struct timing){0};
    TRY(sample(b, work, what, 1, &s)); /* what a library makes at the first call */
    for (;;) {
        TRY(sample(b, work, what, repeats, &s));
        if (s >= SAMPLE_S || repeats >= 1 << 20)
            break;
        repeats *= 2;
    }
    TRY(bench_wait(comm_world(b->comm)));
    double waited = process_waited_s();
    for (start = now_s(); t->samples < SAMPLES && (t->samples == 0 || now_s() - start < window_s);
         t->samples++) {
        TRY(sample(b, work, what, repeats, &s));
        each[t->samples] = s / repeats;
        took += s;
    }
    t->waited = (process_waited_s() - waited) / (now_s() - start);
    qsort(each, (size_t)t->samples, sizeof *each, by_value);
    t->mean_s = took / repeats / t->samples;
    t->median_s = each[t->samples / 2];
    t->best_s = each[0];
    return 0;
}

/* ---- what a rank computes ---- */

static size_t align(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int64_t matrices(const struct multiply *p)
{
    return p->experts ? p->experts : 1;
}

enum { X, Y, ROWS, W, PARTS_OF_PRODUCT };

/* Of the two matrices of rows, the experts' first rows, the weight; an f32 gradient in its place. */
static void sizes(const struct multiply *p, size_t x[static PARTS_OF_PRODUCT])
{
    size_t unit = type_bytes(p->type), count = (size_t)matrices(p);
    x[X] = align(count * (size_t)(p->m * p->k) * unit);
    x[Y] = align(count * (size_t)(p->m * p->n) * unit);
    x[ROWS] = align((size_t)(p->experts + 1) * sizeof(int32_t));
    x[W] = align(count * (size_t)(p->k * p->n) * (p->use == PRODUCT_WEIGHT ? 4 : unit));
}

size_t product_bytes(const struct multiply *p)
{
    size_t x[PARTS_OF_PRODUCT];
    sizes(p, x);
    return x[X] + x[Y] + x[ROWS] + x[W];
}

double product_flops(const struct multiply *p)
{
    return 2.0 * (double)matrices(p) * (double)p->m * (double)p->n * (double)p->k;
}

static void grouped(const struct bench *b, const struct multiply *p, char *x, char *w, char *y, int32_t *row)
{
    static const enum grouped_kind kind[] = {[PRODUCT_FORWARD] = GROUPED_FORWARD,
                                             [PRODUCT_INPUT] = GROUPED_INPUT,
                                             [PRODUCT_WEIGHT] = GROUPED_WEIGHT};
    int32_t first[257];
    for (int64_t e = 0; e <= p->experts; e++)
        first[e] = (int32_t)(e * p->m);
    b->be->upload(b->s, row, first, (size_t)(p->experts + 1) * sizeof *first);
    b->be->grouped_matmul(b->s,
                          &OP(grouped_matmul, .kind = kind[p->use], .beta = 1, .experts = p->experts,
                              .rows = p->m * p->experts, .row = row, .n = p->n, .k = p->k, .x = x, .ldx = p->k,
                              .y = y, .ldy = p->n, .w = w, .stride = p->n * p->k, .type = p->type));
}

void bench_product(const struct bench *b, const void *what)
{
    const struct multiply *p = what;
    size_t size[PARTS_OF_PRODUCT];
    sizes(p, size);
    char *x = b->memory, *y = x + size[X], *row = y + size[Y], *w = row + size[ROWS];
    size_t places = ((size_t)(b->memory + b->bytes - w)) / size[W];
    if (p->turn)
        w += (size_t)(*p->turn)++ % places * size[W];
    struct matmul forward = OP(matmul, .m = p->m, .n = p->n, .k = p->k, .tb = true, .a = x, .lda = p->k, .b = w,
                               .ldb = p->k, .c = y, .ldc = p->n, .in = p->type, .out = p->type);
    struct matmul input = OP(matmul, .m = p->m, .n = p->k, .k = p->n, .a = y, .lda = p->n, .b = w, .ldb = p->k,
                             .c = x, .ldc = p->k, .in = p->type, .out = p->type);
    struct matmul weight = OP(matmul, .m = p->n, .n = p->k, .k = p->m, .ta = true, .a = y, .lda = p->n, .b = x,
                              .ldb = p->k, .c = w, .ldc = p->k, .beta = 1, .in = p->type, .out = F32);
    if (p->experts)
        grouped(b, p, x, w, y, (int32_t *)(void *)row);
    else
        b->be->matmul(b->s, p->use == PRODUCT_FORWARD ? &forward : p->use == PRODUCT_INPUT ? &input : &weight);
}

/* Of q, k, v, o, and of their gradients; behind them two floats a head and token. */
static size_t attend_matrix(const struct attend *a)
{
    return align((size_t)(a->sequences * a->seq * a->heads * a->dim) * type_bytes(a->type));
}

static size_t attend_row(const struct attend *a)
{
    return align((size_t)(a->sequences * a->seq * a->heads) * sizeof(float));
}

size_t attend_bytes(const struct attend *a)
{
    return 8 * attend_matrix(a) + 2 * attend_row(a);
}

double attend_flops(const struct attend *a)
{
    double forward = 4.0 * (double)(a->sequences * a->seq * a->heads * a->dim) * (double)a->seq / 2;
    return a->back ? 2.5 * forward : forward;
}

void bench_attend(const struct bench *b, const void *what)
{
    const struct attend *a = what;
    int64_t wide = a->heads * a->dim;
    size_t step = attend_matrix(a);
    char *t = b->memory, *rows = t + 8 * step;
    struct attention f =
        OP(attention, .sequences = a->sequences, .seq = a->seq, .heads = a->heads, .kv_heads = a->heads,
           .dim = a->dim, .q = t, .k = t + step, .v = t + 2 * step, .ldq = wide, .ldk = wide, .ldv = wide,
           .o = t + 3 * step, .ldo = wide, .lse = (float *)(void *)rows, .scale = 0.1f, .type = a->type);
    if (a->back)
        b->be->attention_backward(b->s, &OP(attention_backward, .fwd = f, .d_o = t + 4 * step, .lddo = wide,
                                            .dq = t + 5 * step, .dk = t + 6 * step, .dv = t + 7 * step,
                                            .delta = (float *)(void *)(rows + attend_row(a))));
    else
        b->be->attention(b->s, &f);
}

void bench_traffic(const struct bench *b, const void *what)
{
    const struct traffic *t = what;
    float *x = (float *)(void *)b->memory;
    b->be->add(b->s, &OP(add, .count = t->count, .a = x, .b = x + t->count, .y = x, .type = F32));
}

void bench_upload(const struct bench *b, const void *what)
{
    const struct transfer *t = what;
    b->be->upload(b->s, b->memory, t->host, t->bytes);
}

void bench_download(const struct bench *b, const void *what)
{
    const struct transfer *t = what;
    b->be->download(b->s, t->host, b->memory, t->bytes); /* a failure is kept, and the next sync() has it */
}
