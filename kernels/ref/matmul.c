/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "../number.h"
#include "base/num.h"
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
    for (int i = 0; i < p->segments; i++) {
        int64_t first = p->row[i], rows = p->row[i + 1] - first;
        void *x = at(p->x, first * p->ldx, p->type), *y = at(p->y, first * p->ldy, p->type);
        void *w = at(p->w, p->which[i] * p->stride, p->kind == GROUPED_WEIGHT ? F32 : p->type);
        struct matmul m;
        if (p->kind == GROUPED_FORWARD)
            m = (struct matmul){rows, p->n, p->k, false,  true, x,       p->ldx,
                                w,    p->k, y,    p->ldy, 0,    p->type, p->type};
        else if (p->kind == GROUPED_INPUT)
            m = (struct matmul){rows, p->k, p->n, false,  false, y,       p->ldy,
                                w,    p->k, x,    p->ldx, 0,     p->type, p->type};
        else
            m = (struct matmul){p->n, p->k, rows, true, false, y, p->ldy, x, p->ldx, w, p->k, 1, p->type, F32};
        ref_matmul(s, &m);
    }
}
