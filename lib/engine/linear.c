/* SPDX-License-Identifier: MIT */
#include "engine/linear.h"

void linear(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, void *y)
{
    e->be->matmul(e->s, &(struct matmul){.m = rows,
                                         .n = n,
                                         .k = k,
                                         .tb = true,
                                         .a = x,
                                         .lda = k,
                                         .b = w,
                                         .ldb = k,
                                         .c = y,
                                         .ldc = n,
                                         .in = e->type,
                                         .out = e->type});
}

void linear_input(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *w, void *dx)
{
    e->be->matmul(e->s, &(struct matmul){.m = rows,
                                         .n = k,
                                         .k = n,
                                         .a = dy,
                                         .lda = n,
                                         .b = w,
                                         .ldb = k,
                                         .c = dx,
                                         .ldc = k,
                                         .in = e->type,
                                         .out = e->type});
}

void linear_weight(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *x,
                   float *dw)
{
    e->be->matmul(e->s, &(struct matmul){.m = n,
                                         .n = k,
                                         .k = rows,
                                         .ta = true,
                                         .a = dy,
                                         .lda = n,
                                         .b = x,
                                         .ldb = k,
                                         .c = dw,
                                         .ldc = k,
                                         .beta = 1,
                                         .in = e->type,
                                         .out = F32});
}

void linear_f32_backward(struct engine *e, int64_t width, const float *dy, const struct weight *w,
                         const void *x, void *dx)
{
    const struct backend *be = e->be;
    int64_t nH = e->n * e->H;
    const float *x32 = x, *w32 = w->w;
    if (e->type != F32) {
        be->convert(e->s, &(struct convert){nH, x, e->ws->h2_f32, e->type, F32, 1});
        be->convert(e->s, &(struct convert){width * e->H, w->w, e->ws->router_w, e->type, F32, 1});
        x32 = e->ws->h2_f32;
        w32 = e->ws->router_w;
    }
    be->matmul(e->s, &(struct matmul){.m = width,
                                      .n = e->H,
                                      .k = e->n,
                                      .ta = true,
                                      .a = dy,
                                      .lda = width,
                                      .b = x32,
                                      .ldb = e->H,
                                      .c = w->g,
                                      .ldc = e->H,
                                      .beta = 1});
    struct matmul input = {.m = e->n,
                           .n = e->H,
                           .k = width,
                           .a = dy,
                           .lda = width,
                           .b = w32,
                           .ldb = e->H,
                           .c = dx,
                           .ldc = e->H,
                           .beta = 1};
    if (e->type != F32) {
        input.c = e->ws->h2_f32;
        input.beta = 0;
    }
    be->matmul(e->s, &input);
    if (e->type != F32) {
        be->convert(e->s, &(struct convert){nH, e->ws->h2_f32, e->ws->branch, F32, e->type, 1});
        add_into(e, nH, dx, e->ws->branch);
    }
}

void add_into(struct engine *e, int64_t count, void *y, const void *x)
{
    e->be->add(e->s, &(struct add){.count = count, .a = y, .b = x, .y = y, .type = e->type});
}
