/* SPDX-License-Identifier: MIT */
#include "train/figures.h"

#include "base/memory.h"
#include "comm/host.h"

static void add(double *x, const double *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += y[i];
}

static size_t size_of(int pp)
{
    return sizeof(struct figures) + (size_t)pp * sizeof(struct most);
}

struct figures *figures_new(int rank, const struct profile_times *t, int64_t bytes, int at_pp, int pp)
{
    struct figures *f = xcalloc(1, size_of(pp));
    for (int i = 0; i < PHASES; i++) {
        f->sum_s[i] = t->spent_s[i];
        f->hidden_s[i] = t->hidden_s[i];
        f->phase_s[i] = (struct most){t->spent_s[i], rank};
    }
    for (int i = 0; i < pp; i++)
        f->bytes[i] = i == at_pp ? (struct most){(double)bytes, rank} : (struct most){0, -1};
    return f;
}

static void keep_most(struct most *x, const struct most *y)
{
    bool more = y->value > x->value || (y->value == x->value && y->rank < x->rank);
    if (y->rank >= 0 && (x->rank < 0 || more))
        *x = *y;
}

static void merge(void *into, const void *from, size_t bytes)
{
    struct figures *f = into;
    const struct figures *g = from;
    add(f->sum_s, g->sum_s, PHASES);
    f->overflow += g->overflow;
    add(f->hidden_s, g->hidden_s, PHASES);
    for (int i = 0; i < PHASES; i++)
        keep_most(&f->phase_s[i], &g->phase_s[i]);
    for (size_t i = 0; i < (bytes - sizeof *f) / sizeof *f->bytes; i++)
        keep_most(&f->bytes[i], &g->bytes[i]);
}

int figures_reduce(struct group *world, struct figures *f, int pp)
{
    return host_reduce(world, f, size_of(pp), merge);
}
