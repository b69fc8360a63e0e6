/* SPDX-License-Identifier: MIT */
/* The programme of sizes: every operation at the sizes of real models on one backend, against its twin on
 * another.
 *
 * A problem has rows. The one under test computes all of them; the twin only those of some windows, where all
 * would take too long, and what the two show of a window must agree. Every input is a function of its place in
 * the whole problem (fill_normal), so that a window can be made without the rest:
 *
 *     static void swiglu_rows(struct side *s)
 *     {
 *         void *x = rows_of(s, 2 * s->width, s->type, 1), *y = rows_of(s, s->width, s->type, 1);
 *         s->be->swiglu(s->s, &OP(swiglu, .rows = s->rows, .width = s->width, .gate_up = x, .y = y, …));
 *         show(s, "y", y, s->width, s->type, s->tol);
 *     }
 *
 * What has been shown must stay as it is until run() returns: it is looked at later. Tolerances are those of
 * t/unit/kernels*.c: tol · (1 + the number's size). */
#ifndef T_GPU_SIZES_H
#define T_GPU_SIZES_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"

struct side;

/* A problem: its name, and its sizes, with which a `scale` may do something (sizes.c). */
struct problem {
    const char *name;
    void (*run)(struct side *s);
    int64_t rows, width, n; /* n: another size, of the problem's own meaning, that is not scaled */
    int64_t unit;           /* windows begin and end at multiples of so many rows; 0: only whole */
    bool bf16_only;
};

/* What a run of a problem sees: one backend's rows of it. */
struct side {
    const struct backend *be;
    struct stream *s;
    enum type type;
    double tol;             /* of this type, for numbers that are a few operations from the inputs */
    int64_t width, n, unit; /* the problem's */
    int64_t first, rows;    /* the window: the side's rows among the problem's `all` */
    int64_t all;
    uint64_t made;       /* tensors so far: each is filled with a seed of its own */
    struct judge *judge; /* sizes.c */
};

/* Tensors, freed after the run. Numbers are normal with this standard deviation. */
void *rows_of(struct side *s, int64_t width, enum type type, double std);  /* [rows,width] of the window */
void *whole_of(struct side *s, int64_t count, enum type type, double std); /* the same for every window */
/* `count` values of the host, the same for every window. */
void *host_of(struct side *s, const void *host, size_t bytes);
int32_t *zeros_of(struct side *s, int64_t count);
/* [rows,width] of the window: integers in [from, from+below), a function of their place. */
int32_t *ints_of(struct side *s, int64_t width, int32_t from, int32_t below);
/* What ints_of() has at element i of its next tensor. */
int32_t int_at(const struct side *s, int64_t i, int32_t from, int32_t below);

/* Compares. show: [rows,width] of the window. show_planes: `planes` of these, one after the other, each of all
 * the side's rows. show_whole: what is a sum over all rows; compared where the window is everything. */
void show(struct side *s, const char *what, const void *p, int64_t width, enum type type, double tol);
void show_planes(struct side *s, const char *what, const void *p, int64_t planes, int64_t width, enum type type,
                 double tol);
void show_whole(struct side *s, const char *what, const void *p, int64_t count, enum type type, double tol);
void show_ints(struct side *s, const char *what, const int32_t *p, int64_t width);
void show_doubles(struct side *s, const char *what, const double *p, int64_t count);

extern const struct problem sizes_layer[], sizes_route[], sizes_ends[]; /* a NULL name ends them */

#endif
