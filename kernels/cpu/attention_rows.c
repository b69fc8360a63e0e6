/* SPDX-License-Identifier: MIT */
#include "attention.h"

#include "base/fence.h"
#include "matmul.h"
#include "piece.h"

static void *row_of(const struct head_rows *x, int64_t r, enum type type)
{
    return at(x->p, x->first + r * x->ld, type);
}

HOT static void lying_f32(float *to, const struct head_form *f, const struct head_rows *x)
{
    int64_t dim = f->dim, wide = f->wide;
    for (int64_t r = 0; r < x->rows; r++) {
        if (f->type == F32)
            memcpy(to + r * wide, row_of(x, r, F32), (size_t)dim * sizeof *to);
        else
            scale_to(to + r * wide, row_of(x, r, BF16), 1, dim, F32, BF16);
        for (int64_t i = dim; i < wide; i++)
            to[r * wide + i] = 0;
    }
}

void rows_lying(float *to, const struct head_form *f, const struct head_rows *x, int64_t rows)
{
    int64_t width = words(f, f->wide);
    if (f->pairs)
        pairs_lying(to, width, row_of(x, 0, BF16), x->ld, x->rows, f->dim);
    else
        lying_f32(to, f, x);
    memset(to + x->rows * width, 0, (size_t)((rows - x->rows) * width) * sizeof *to);
}

void rows_stacked(float *to, const struct head_form *f, const struct head_rows *x, int64_t rows)
{
    if (!f->pairs) {
        rows_lying(to, f, x, rows);
        return;
    }
    int64_t filled = words(f, x->rows);
    pairs_stacked(to, f->wide, row_of(x, 0, BF16), x->ld, x->rows, f->dim);
    memset(to + filled * f->wide, 0, (size_t)((words(f, rows) - filled) * f->wide) * sizeof *to);
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* to [wide, STRIP] = fromᵀ. */
HOT static void transpose(float *to, const float *from, int64_t wide)
{
    for (int64_t c = 0; c < STRIP; c += 4)
        for (int64_t d = 0; d < wide; d += 4) {
            const float *x = from + c * wide + d;
            four *y = (four *)(to + d * STRIP + c);
            four r0 = *(const four *)x, r1 = *(const four *)(x + wide);
            four r2 = *(const four *)(x + 2 * wide), r3 = *(const four *)(x + 3 * wide);
            four low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
                 low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
            four high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7),
                 high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
            y[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
            y[STRIP / 4] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
            y[2 * STRIP / 4] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
            y[3 * STRIP / 4] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
        }
}

void rows_columns(float *to, const struct head_form *f, const struct head_rows *x, const float *lying)
{
    if (f->pairs)
        pairs_columns(to, STRIP, row_of(x, 0, BF16), x->ld, x->rows, f->dim);
    else
        transpose(to, lying, f->wide);
}

HOT static void put(const struct head_rows *y, const struct head_form *f, const float *x, const float *by,
                    float scale)
{
    for (int64_t r = 0; r < y->rows; r++)
        BY_TYPE(f->type, scale_to(row_of(y, r, T), x + r * f->wide, by ? by[r] : scale, f->dim, T, F32));
}

void rows_put(const struct head_rows *y, const struct head_form *f, const float *x, const float *by,
              float scale)
{
    if (f->pairs)
        pairs_put(row_of(y, 0, BF16), y->ld, x, f->wide, by, scale, y->rows, f->dim);
    else
        put(y, f, x, by, scale);
}

void rows_ask(struct errands *e, const struct head_form *f, const struct head_rows *x)
{
    enum { LINE = 64 };
    int64_t unit = (int64_t)type_bytes(f->type);
    if (x->rows > 0 && f->dim > 0 && e->count < ERRANDS)
        e->list[e->count++] = (struct errand){.p = row_of(x, 0, f->type),
                                              .ld = x->ld * unit,
                                              .across = ceil_div(f->dim * unit, LINE),
                                              .rows = x->rows};
}
