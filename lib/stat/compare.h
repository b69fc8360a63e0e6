/* SPDX-License-Identifier: MIT */
/* Is one run slower than another, or is it noise? Compared are the seconds that a token took, step by step.
 *
 * Steps are no independent samples: what slows one (a busy network, a hot expert) slows the next. So the
 * steps of a run, in order, are cut into batches of equal length, and only the batches' means count as
 * samples. There are 64 batches at first, and half as many as long as neighbouring means are still
 * correlated by von Neumann's test (5%, one-sided) and more than 8 are left. (G. S. Fishman, Grouping
 * observations in digital simulation, Management Science 24(5), 1978.) What correlation r is left among n of
 * them makes them worth n(1-r)/(1+r); the estimate, too low for few, is mended by (1+3r)/n first. (F. H. C.
 * Marriott, J. A. Pope, Bias in the estimation of autocorrelations, Biometrika 41, 1954.) The two means are
 * then compared by Welch's t test, on their logarithms, so that what comes out is a ratio. t/unit/stat.c
 * tries how often that is wrong. */
#ifndef STAT_COMPARE_H
#define STAT_COMPARE_H

#include <stdbool.h>
#include <stdio.h>

#include "stat/steplog.h"

struct compare_side {
    double steps, mean_s, tokens_per_s; /* samples; seconds a token, its mean; its inverse */
    double error;                       /* standard error of the mean, relative to it */
    double batches, worth;              /* batches, and how many independent ones they are worth */
    double effective;                   /* independent steps that all are worth */
    bool correlated;                    /* the batches' means still are: the error is too small */
};

struct compare {
    struct compare_side a, b;
    double slower;    /* B's seconds a token over A's, less 1 */
    double low, high; /* with 95% confidence */
    double p;         /* of a difference so large towards slower (or faster, where it is) if there were none */
    double freedom;   /* of the t distribution */
};

/* p below which a difference is no noise. */
#define COMPARE_P 0.01
enum { COMPARE_LEAST_STEPS = 8 };

/* After the first `skip` steps of each. -1 with error() set: a log has too few steps with tokens and a time. */
int compare_make(struct compare *c, struct steplog *a, struct steplog *b, int64_t skip_a, int64_t skip_b);
bool compare_slower(const struct compare *c); /* B, beyond noise */
void compare_text(FILE *f, const struct compare *c, const char *name_a, const char *name_b);
void compare_json(FILE *f, const struct compare *c);

/* P(|T| <= t) of Student's distribution with so many degrees of freedom, at least 1. */
double student(double t, int freedom);

#endif
