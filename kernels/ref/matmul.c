/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "../number.h"
#include "base/memory.h"
#include "ref.h"

void ref_matmul(struct stream *s, const struct matmul *p)
{
    float *b = xmalloc((size_t)(p->k * p->n + 1) * sizeof *b);
    double *sum = xmalloc((size_t)(p->n + 1) * sizeof *sum);
    for (int64_t k = 0; k < p->k; k++)
        for (int64_t j = 0; j < p->n; j++)
            b[k * p->n + j] = load(p->b, p->tb ? j * p->ldb + k : k * p->ldb + j, p->in);
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++)
            sum[j] = p->beta != 0 ? load(p->c, i * p->ldc + j, p->out) : 0;
        for (int64_t k = 0; k < p->k; k++) {
            double a = load(p->a, p->ta ? k * p->lda + i : i * p->lda + k, p->in);
            for (int64_t j = 0; j < p->n; j++)
                sum[j] += a * b[k * p->n + j];
        }
        for (int64_t j = 0; j < p->n; j++)
            store(p->c, i * p->ldc + j, p->out, (float)sum[j]);
    }
    free(b);
    free(sum);
}

void ref_grouped_matmul(struct stream *s, const struct grouped_matmul *p)
{
    for (int64_t i = 0; i < p->experts; i++) {
        int64_t first = counted(p->rows, &p->row[i]), rows = counted(p->rows, &p->row[i + 1]) - first;
        void *x = at(p->x, first * p->ldx, p->type), *y = at(p->y, first * p->ldy, p->type);
        void *w = at(p->w, i * p->stride, p->kind == GROUPED_WEIGHT ? F32 : p->type);
        struct matmul m;
        if (p->kind == GROUPED_FORWARD) /* y = x·Wᵀ */
            m = OP(matmul, .m = rows, .n = p->n, .k = p->k, .a = x, .lda = p->ldx, .b = w, .ldb = p->k,
                   .tb = true, .c = y, .ldc = p->ldy, .in = p->type, .out = p->type);
        else if (p->kind == GROUPED_INPUT) /* x = y·W */
            m = OP(matmul, .m = rows, .n = p->k, .k = p->n, .a = y, .lda = p->ldy, .b = w, .ldb = p->k, .c = x,
                   .ldc = p->ldx, .in = p->type, .out = p->type);
        else /* W = yᵀ·x + beta·W */
            m = OP(matmul, .m = p->n, .n = p->k, .k = rows, .a = y, .lda = p->ldy, .ta = true, .b = x,
                   .ldb = p->ldx, .c = w, .ldc = p->k, .beta = p->beta, .in = p->type, .out = F32);
        ref_matmul(s, &m);
    }
}
