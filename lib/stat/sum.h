/* SPDX-License-Identifier: MIT */
/* Sums of doubles that are right to the last digit for all that logs hold: what each addition loses is added up
 * apart. (A. Neumaier, Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen, ZAMM 54, 1974.)
 * So a report does not depend on how it adds, and agrees with one that another program makes. */
#ifndef STAT_SUM_H
#define STAT_SUM_H

#include <math.h>

struct sum {
    double sum, lost;
    double count; /* of what was added */
};

static inline void sum_add(struct sum *s, double x)
{
    double t = s->sum + x;
    s->lost += fabs(s->sum) >= fabs(x) ? (s->sum - t) + x : (x - t) + s->sum;
    s->sum = t;
    s->count++;
}

static inline double sum_value(const struct sum *s)
{
    return s->sum + s->lost;
}

/* NaN of nothing. */
static inline double sum_mean(const struct sum *s)
{
    return s->count > 0 ? sum_value(s) / s->count : NAN;
}

#endif
