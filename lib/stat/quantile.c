/* SPDX-License-Identifier: MIT */
#include "stat/quantile.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { DIGIT = 16, RANKS = 2 * QUANTILES };

/* Doubles in the order of unsigned integers, and back. */
static uint64_t key_of(double x)
{
    uint64_t k;
    x += 0.0; /* -0 is 0 */
    memcpy(&k, &x, sizeof k);
    return k >> 63 ? ~k : k | (uint64_t)1 << 63;
}

static double of_key(uint64_t k)
{
    double x;
    k = k >> 63 ? k & ~((uint64_t)1 << 63) : ~k;
    memcpy(&x, &k, sizeof x);
    return x;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The values that have these places in their order. */
struct search {
    size_t place[RANKS]; /* among those that begin with the key found so far */
    uint64_t key[RANKS]; /* the bits found */
    int n;
};

/* The next DIGIT bits of each key. */
static void find_digit(struct search *s, void *of, size_t count, quantile_value *value, int shift)
{
    uint64_t above = shift == 64 - DIGIT ? 0 : ~(uint64_t)0 << (shift + DIGIT);
    size_t *table = xcalloc((size_t)s->n << DIGIT, sizeof *table);
    for (size_t i = 0; i < count; i++) {
        double x;
        if (!value(of, i, &x))
            continue;
        uint64_t k = key_of(x);
        for (int r = 0; r < s->n; r++)
            table[((size_t)r << DIGIT) + (k >> shift & 0xffff)] += (k & above) == s->key[r];
    }
    for (int r = 0; r < s->n; r++) {
        const size_t *counts = table + ((size_t)r << DIGIT);
        uint64_t d = 0;
        for (; d < 0xffff && s->place[r] >= counts[d]; d++)
            s->place[r] -= counts[d];
        s->key[r] |= d << shift;
    }
    free(table);
}

/* Fills `kept` as far as it has room; returns how many there are. */
static size_t collect(void *of, size_t count, quantile_value *value, double *kept, size_t room)
{
    size_t n = 0;
    double x;
    for (size_t i = 0; i < count; i++)
        if (value(of, i, &x)) {
            if (n < room)
                kept[n] = x;
            n++;
        }
    return n;
}

size_t quantiles_within(size_t sorted, void *of, size_t count, quantile_value *value, const double *p, int n,
                        double *to)
{
    size_t room = count < sorted ? count : sorted;
    double *kept = xmalloc((room + 1) * sizeof *kept);
    size_t there = collect(of, count, value, kept, room);
    struct search s = {.n = 2 * n};
    for (int k = 0; k < n && there; k++) {
        size_t i = (size_t)(p[k] * (double)(there - 1));
        s.place[2 * k] = i;
        s.place[2 * k + 1] = i + 1 < there ? i + 1 : i;
    }
    if (there <= room)
        qsort(kept, there, sizeof *kept, ascending);
    else
        for (int shift = 64 - DIGIT; shift >= 0; shift -= DIGIT)
            find_digit(&s, of, count, value, shift);
    for (int k = 0; k < n; k++) {
        double at = p[k] * ((double)there - 1), a, b;
        if (!there) {
            to[k] = NAN;
            continue;
        }
        a = there <= room ? kept[s.place[2 * k]] : of_key(s.key[2 * k]);
        b = there <= room ? kept[s.place[2 * k + 1]] : of_key(s.key[2 * k + 1]);
        double t = at - floor(at);
        to[k] = t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t); /* rounded as numpy rounds */
    }
    free(kept);
    return there;
}

size_t quantiles(void *of, size_t count, quantile_value *value, const double *p, int n, double *to)
{
    return quantiles_within(QUANTILE_SORTED, of, count, value, p, n, to);
}
