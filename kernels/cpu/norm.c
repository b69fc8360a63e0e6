/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "lanes.h"

/* Rows that are computed side by side: one row's sum, root and quotient each wait for the last. */
enum { ROWS = 8 };

/* Where a head of a row begins: unit i of rows·heads, which lie `ld` and `width` elements apart. */
LOOP int64_t unit_at(int64_t i, int64_t heads, int64_t ld, int64_t width)
{
    int64_t row = heads > 1 ? i / heads : i; /* a division takes as long as a piece */
    return row * ld + (i - row * heads) * width;
}

/* What a row sums up. */
struct norm_sums {
    double squares, dot; /* Σ x², Σ dy·w·x */
};
struct lane_sums {
    struct lane_sum squares, dot;
};

/* dy, counting as 0 where the clip cut. */
LOOP float kept(float dy, float normed, bool cut, float clip)
{
    return cut && fabsf(normed) >= clip ? 0 : dy;
}

/* What is summed: dots, with or without a clip, and squares beside them. */
struct wanted {
    bool squares, dot, cut;
    float clip, rstd;
};

LOOP void add_sums(struct lane_sums *sum, const void *x, const void *dy, const void *w, int64_t c, int64_t n,
                   const struct wanted *want, enum type T)
{
    float v[LANES], g[LANES], by[LANES];
    if (want->squares)
        add_squares(&sum->squares, at(x, c, T), n, T);
    if (want->dot) {
        get(v, at(x, c, T), n, T);
        get(g, at(dy, c, T), n, T);
        get(by, at(w, c, T), n, T);
        EACH_LANE g[l] = kept(g[l], v[l] * want->rstd * by[l], want->cut, want->clip) * by[l];
        add_products(&sum->dot, g, v);
    }
}

/* Two pieces at a time: a sum of one would wait for itself. */
LOOP struct norm_sums chunk_sums(const void *x, const void *dy, const void *w, int64_t c, int64_t end,
                                 const struct wanted *want, enum type T)
{
    struct lane_sums a = {0}, b = {0};
    for (; c + 2 * LANES <= end; c += 2 * LANES) {
        add_sums(&a, x, dy, w, c, LANES, want, T);
        add_sums(&b, x, dy, w, c + LANES, LANES, want, T);
    }
    if (c + LANES <= end) {
        add_sums(&a, x, dy, w, c, LANES, want, T);
        c += LANES;
    }
    if (c < end)
        add_sums(&b, x, dy, w, c, end - c, want, T);
    a.squares.even += b.squares.even;
    a.squares.odd += b.squares.odd;
    a.dot.even += b.dot.even;
    a.dot.odd += b.dot.odd;
    return (struct norm_sums){want->squares ? total_of(&a.squares) : 0, want->dot ? total_of(&a.dot) : 0};
}

LOOP struct norm_sums sums_of(const void *x, const void *dy, const void *w, int64_t width, struct wanted want,
                              enum type T)
{
    struct norm_sums sum = {0, 0};
    for (int64_t c = 0; c < width; c += CHUNK) {
        struct norm_sums part = chunk_sums(x, dy, w, c, min64(c + CHUNK, width), &want, T);
        sum.squares += part.squares;
        sum.dot += part.dot;
    }
    return sum;
}

/* Σ x². Several pieces at a time: a sum of one would wait for itself. */
LOOP double squares_of(const void *x, int64_t width, enum type T)
{
    enum { SUMS = 4 };
    double total = 0;
    for (int64_t c = 0; c < width; c += CHUNK) {
        struct lane_sum a = {0}, b = {0}, d = {0}, e = {0};
        int64_t end = min64(c + CHUNK, width), k = c;
        for (; k + SUMS * LANES <= end; k += SUMS * LANES) {
            add_squares(&a, at(x, k, T), LANES, T);
            add_squares(&b, at(x, k + LANES, T), LANES, T);
            add_squares(&d, at(x, k + 2 * LANES, T), LANES, T);
            add_squares(&e, at(x, k + 3 * LANES, T), LANES, T);
        }
        for (; k < end; k += LANES)
            add_squares(&a, at(x, k, T), min64(LANES, end - k), T);
        a.even = (a.even + b.even) + (d.even + e.even);
        a.odd = (a.odd + b.odd) + (d.odd + e.odd);
        total += total_of(&a);
    }
    return total;
}

#define BOTH ((struct wanted){.squares = true, .dot = true})

LOOP float rstd_of(double sumsq, double width, double eps)
{
    return (float)(1 / sqrt(sumsq / width + eps));
}

/* With a clip the dot needs the squares first. */
LOOP struct norm_sums clipped_sums(const void *x, const void *dy, const void *w, int64_t width, float clip,
                                   float eps, enum type T)
{
    struct norm_sums sum = {.squares = squares_of(x, width, T)};
    struct wanted dot = {
        .dot = true, .cut = true, .clip = clip, .rstd = rstd_of(sum.squares, (double)width, eps)};
    sum.dot = sums_of(x, dy, w, width, dot, T).dot;
    return sum;
}

/* A piece of the weights serves all rows. Those of bf16 that come next are asked for: they are computed faster
 * than memory gives them. */
LOOP void normalise(const struct rmsnorm *p, int64_t first, int64_t count, const float *rstd, bool cut,
                    enum type T)
{
    const int64_t ahead = ROWS * (p->heads > 1 ? p->width : p->ldx);
    const void *x[ROWS];
    void *y[ROWS];
    for (int64_t j = 0; j < count; j++) {
        x[j] = at(p->x, unit_at(first + j, p->heads, p->ldx, p->width), T);
        y[j] = at(p->y, unit_at(first + j, p->heads, p->ldy, p->width), T);
    }
    PIECES(c, n, p->width, {
        float v[LANES], w[LANES];
        get(w, at(p->w, c, T), n, T);
        for (int64_t j = 0; j < count; j++) {
            get(v, at(x[j], c, T), n, T);
            if (T != F32)
                ask_for(at(x[j], ahead + c, T), 1);
            EACH_LANE v[l] = v[l] * rstd[j] * w[l];
            if (cut) {
                EACH_LANE v[l] = v[l] > p->clip ? p->clip : v[l];
                EACH_LANE v[l] = v[l] < -p->clip ? -p->clip : v[l];
            }
            put(at(y[j], c, T), v, n, T);
        }
    });
}

LOOP void forward_rows_loop(const struct rmsnorm *p, int64_t first, int64_t count, enum type T)
{
    double sumsq[ROWS] = {0}, width = (double)(p->sumsq ? p->full_width : p->width), eps = p->eps;
    float rstd[ROWS];
    for (int64_t j = 0; j < count; j++) {
        int64_t i = first + j;
        sumsq[j] = p->sumsq ? p->sumsq[i / p->heads]
                            : squares_of(at(p->x, unit_at(i, p->heads, p->ldx, p->width), T), p->width, T);
    }
#pragma omp simd
    for (int j = 0; j < ROWS; j++)
        rstd[j] = rstd_of(sumsq[j], width, eps);
    const int64_t together = T == F32 ? 1 : ROWS; /* f32 wait for memory, which likes one after the other */
    for (int64_t j = 0; j < count; j += together)
        if (p->clip > 0)
            normalise(p, first + j, min64(together, count - j), rstd + j, true, T);
        else
            normalise(p, first + j, min64(together, count - j), rstd + j, false, T);
}
IN_LANES(forward_rows, (const struct rmsnorm *p, int64_t first, int64_t count), (p, first, count))

static void cpu_rmsnorm(struct stream *s, const struct rmsnorm *p)
{
    int64_t units = p->rows * p->heads;
#pragma omp parallel for schedule(static) if (units * p->width > WORTH)
    for (int64_t i = 0; i < units; i += ROWS)
        forward_rows(p, i, min64(ROWS, units - i));
}

/* Rows of the backward pass: a piece of the weights, and of their gradient, serves all of them. */
struct norm_rows {
    int64_t count;
    const void *x[ROWS], *dy[ROWS];
    void *dx[ROWS];
    float rstd[ROWS], shrink[ROWS];
};

/* The processor itself asks for rows that are read one after the other, but not for those of dx, which lie as
 * far from memory and are first met in gradient(). */
LOOP void find_rows(struct norm_rows *rows, const struct rmsnorm_backward *p, int64_t first, int64_t last,
                    enum type T)
{
    double sumsq[ROWS] = {0}, dot[ROWS] = {0}, eps = p->eps;
    double width = (double)(p->sumsq ? p->full_width : p->width);
    rows->count = last - first;
    for (int64_t i = first, j = 0; i < last; i++, j++) {
        const void *x = rows->x[j] = at(p->x, unit_at(i, p->heads, p->ldx, p->width), T);
        const void *dy = rows->dy[j] = at(p->dy, unit_at(i, p->heads, p->lddy, p->width), T);
        struct norm_sums sum;
        rows->dx[j] = at(p->dx, unit_at(i, p->heads, p->lddx, p->width), T);
        ask_for(at(p->dx, unit_at(i + rows->count, p->heads, p->lddx, p->width), T),
                p->width * (int64_t)type_bytes(T));
        if (p->sumsq)
            sum = (struct norm_sums){p->sumsq[i / p->heads], p->dot[i / p->heads]};
        else if (p->clip > 0)
            sum = clipped_sums(x, dy, p->w, p->width, p->clip, p->eps, T);
        else
            sum = sums_of(x, dy, p->w, p->width, BOTH, T);
        sumsq[j] = sum.squares;
        dot[j] = sum.dot;
    }
#pragma omp simd
    for (int j = 0; j < ROWS; j++) {
        float rstd = rstd_of(sumsq[j], width, eps);
        rows->rstd[j] = rstd;
        rows->shrink[j] = (float)(dot[j] * rstd * rstd * rstd / width);
    }
}

/* dx and dw as derived in ref/norm.c. */
LOOP void gradient(const struct rmsnorm_backward *p, float *dw, const struct norm_rows *r, bool accumulate,
                   bool cut, enum type T)
{
    PIECES(c, n, p->width, {
        float w[LANES], v[LANES], g[LANES], d[LANES];
        struct lane_sum sum;
        get(w, at(p->w, c, T), n, T);
        get_beside(v, dw + c, n, T);
        start_sum(&sum, v);
        for (int64_t j = 0; j < r->count; j++) {
            get(v, at(r->x[j], c, T), n, T);
            get(g, at(r->dy[j], c, T), n, T);
            EACH_LANE g[l] = kept(g[l], v[l] * r->rstd[j] * w[l], cut, p->clip);
            EACH_LANE d[l] = v[l] * r->rstd[j];
            add_products(&sum, g, d);
            if (accumulate) {
                get(d, at(r->dx[j], c, T), n, T);
                EACH_LANE d[l] -= v[l] * r->shrink[j];
            } else {
                EACH_LANE d[l] = -v[l] * r->shrink[j];
            }
            EACH_LANE d[l] += g[l] * w[l] * r->rstd[j];
            put(at(r->dx[j], c, T), d, n, T);
        }
        sums_to(v, &sum);
        put_beside(dw + c, v, n, T);
    });
}

LOOP void backward_rows_loop(const struct rmsnorm_backward *p, int64_t first, int64_t last, float *dw,
                             enum type T)
{
    const int64_t together = T == F32 ? ROWS / 2 : ROWS; /* so few that they stay in the first cache */
    struct norm_rows rows;
    for (int64_t i = first; i < last; i += together) {
        find_rows(&rows, p, i, min64(i + together, last), T);
        if (p->clip > 0)
            gradient(p, dw, &rows, p->accumulate, true, T);
        else if (p->accumulate)
            gradient(p, dw, &rows, true, false, T);
        else
            gradient(p, dw, &rows, false, false, T);
    }
}
IN_LANES(backward_rows, (const struct rmsnorm_backward *p, int64_t first, int64_t last, float *dw),
         (p, first, last, dw))

enum { COLUMNS = 64 };
/* sum[c] += Σ over blocks of part[b·width + c]. */
HOT static void add_blocks(float *restrict sum, const float *part, int64_t blocks, int64_t width, int64_t n)
{
    float total[COLUMNS] = {0};
    for (int64_t b = 0; b < blocks; b++)
        add_to(total, part + b * width, n, F32);
    add_to(sum, total, n, F32);
}

/* dw is summed in blocks of rows that do not depend on the threads, then over the blocks in order. */
static void cpu_rmsnorm_backward(struct stream *s, const struct rmsnorm_backward *p)
{
    int64_t units = p->rows * p->heads, blocks = min64(32, ceil_div(units, 16));
    float *part = xcalloc((size_t)(blocks * p->width + 1), sizeof *part);
#pragma omp parallel if (units * p->width > WORTH)
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++)
            backward_rows(p, units * b / blocks, units * (b + 1) / blocks, part + b * p->width);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < p->width; c += COLUMNS)
            add_blocks(p->dw + c, part + c, blocks, p->width, min64(COLUMNS, p->width - c));
    }
    free(part);
}

LOOP void sums_of_row_loop(const struct row_sums *p, int64_t r, enum type T)
{
    const void *x = at(p->x, r * p->ldx, T), *dy = at(p->dy, r * p->lddy, T);
    struct wanted dot = {.dot = true}, cut = {.dot = true, .cut = true, .clip = p->clip};
    if (p->sumsq)
        p->sumsq[r] = (float)squares_of(x, p->width, T);
    if (!p->dot)
        return;
    if (p->clip > 0)
        cut.rstd = rstd_of(p->sumsq_in[r], (double)p->full_width, p->eps);
    p->dot[r] = (float)(p->clip > 0 ? sums_of(x, dy, p->w, p->width, cut, T).dot
                                    : sums_of(x, dy, p->w, p->width, dot, T).dot);
}
IN_LANES(sums_of_row, (const struct row_sums *p, int64_t r), (p, r))

static void cpu_row_sums(struct stream *s, const struct row_sums *p)
{
#pragma omp parallel for schedule(static) if (p->rows * p->width > WORTH)
    for (int64_t r = 0; r < p->rows; r++)
        sums_of_row(p, r);
}

void norm_install(struct backend *be)
{
    be->rmsnorm = cpu_rmsnorm;
    be->rmsnorm_backward = cpu_rmsnorm_backward;
    be->row_sums = cpu_row_sums;
}
