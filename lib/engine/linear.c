/* SPDX-License-Identifier: MIT */
#include "engine/linear.h"

void gradient_begin(struct engine *e, float *g, int64_t count)
{
    if (e->fresh)
        e->be->zero(e->s, g, (size_t)count * sizeof *g);
}

void linear(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, void *y)
{
    e->be->matmul(e->s, &OP(matmul, .m = rows, .n = n, .k = k, .a = x, .lda = k, .b = w, .ldb = k, .tb = true,
                            .c = y, .ldc = n, .in = e->type, .out = e->type));
}

void linear_f32(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, float *y)
{
    e->be->matmul(e->s, &OP(matmul, .m = rows, .n = n, .k = k, .a = x, .lda = k, .b = w, .ldb = k, .tb = true,
                            .c = y, .ldc = n, .in = e->type, .out = F32));
}

void linear_input(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *w, void *dx)
{
    e->be->matmul(e->s, &OP(matmul, .m = rows, .n = k, .k = n, .a = dy, .lda = n, .b = w, .ldb = k, .c = dx,
                            .ldc = k, .in = e->type, .out = e->type));
}

void linear_weight(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *x,
                   float *dw)
{
    e->be->matmul(e->s, &OP(matmul, .m = n, .n = k, .k = rows, .a = dy, .lda = n, .ta = true, .b = x, .ldb = k,
                            .c = dw, .ldc = k, .beta = !e->fresh, .in = e->type, .out = F32));
}

/* x in another type. */
static void convert(struct engine *e, int64_t count, const void *x, enum type from, void *y, enum type to)
{
    e->be->convert(e->s, &OP(convert, .count = count, .x = x, .y = y, .from = from, .to = to, .scale = 1));
}

void linear_f32_backward(struct engine *e, int64_t width, const float *dy, const struct weight *w,
                         const void *x, void *dx)
{
    const struct backend *be = e->be;
    int64_t n = e->n, H = e->H;
    bool low = e->type != F32;
    const float *x32 = x, *w32 = w->w;
    if (low) {
        convert(e, n * H, x, e->type, e->ws->h2_f32, F32);
        convert(e, width * H, w->w, e->type, e->ws->router_w, F32);
        x32 = e->ws->h2_f32;
        w32 = e->ws->router_w;
    }
    be->matmul(e->s, &OP(matmul, .m = width, .n = H, .k = n, .a = dy, .lda = width, .ta = true, .b = x32,
                         .ldb = H, .c = w->g, .ldc = H, .beta = !e->fresh));
    /* dx += dy·w. Not in f32: the product goes where x32 was, which has been read, and is rounded and added. */
    be->matmul(e->s, &OP(matmul, .m = n, .n = H, .k = width, .a = dy, .lda = width, .b = w32, .ldb = H,
                         .c = low ? e->ws->h2_f32 : dx, .ldc = H, .beta = low ? 0 : 1));
    if (low) {
        convert(e, n * H, e->ws->h2_f32, F32, e->ws->branch, e->type);
        add_into(e, n * H, dx, e->ws->branch);
    }
}

void add_into(struct engine *e, int64_t count, void *y, const void *x)
{
    e->be->add(e->s, &OP(add, .count = count, .a = y, .b = x, .y = y, .type = e->type));
}
