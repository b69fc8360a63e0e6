/* SPDX-License-Identifier: MIT */
#include "stat/compare.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "stat/sum.h"
#include "stat/summary.h"
#include "stat/texts.h"

enum { MOST_BATCHES = 64, LEAST_BATCHES = 8 };

/* ---- Student's distribution ---- */

/* For whole degrees of freedom it is a finite sum. (M. Abramowitz, I. A. Stegun, Handbook of Mathematical
 * Functions, 26.7.3 and 26.7.4.) */
double student(double t, int freedom)
{
    double theta = atan(t / sqrt(freedom)), c = cos(theta), sum = 0, term;
    if (freedom % 2) {
        term = c;
        for (int k = 3; k <= freedom; k += 2) {
            sum += term;
            term *= c * c * (k - 1) / k;
        }
        return (theta + sin(theta) * sum) * 2 / M_PI;
    }
    term = 1;
    for (int k = 2; k <= freedom; k += 2) {
        sum += term;
        term *= c * c * (k - 1) / k;
    }
    return sin(theta) * sum;
}

/* The t within which a share p of it lies. */
static double student_within(double p, int freedom)
{
    double low = 0, high = 1e4;
    for (int i = 0; i < 100; i++) {
        double t = (low + high) / 2;
        *(student(t, freedom) < p ? &low : &high) = t;
    }
    return high;
}

/* ---- one run ---- */

static double each(const struct step_record *r)
{
    double rate;
    return step_rate(r, &rate) ? r->time_s / (double)r->tokens : NAN;
}

/* Means of `count` batches of the last count·(steps/count) samples. */
static void batch_means(double *mean, int count, struct steplog *log, int64_t skip, size_t steps)
{
    size_t size = steps / (size_t)count, first = steps - size * (size_t)count, i = 0;
    struct sum sum[MOST_BATCHES] = {0};
    for (size_t k = (size_t)skip; k < log->count; k++) {
        double x = each(steplog_step(log, k));
        if (isnan(x))
            continue;
        if (i >= first)
            sum_add(&sum[(i - first) / size], x);
        i++;
    }
    for (int b = 0; b < count; b++)
        mean[b] = sum_mean(&sum[b]);
}

/* Variance of the values, and how alike neighbours are: *alike, their correlation by von Neumann's ratio, and
 * *correlated, whether that is no accident. */
static double variance(const double *x, int n, double *alike, bool *correlated)
{
    struct sum sum = {0}, square = {0}, steps = {0};
    for (int i = 0; i < n; i++)
        sum_add(&sum, x[i]);
    double mean = sum_mean(&sum);
    for (int i = 0; i < n; i++) {
        sum_add(&square, (x[i] - mean) * (x[i] - mean));
        if (i > 0)
            sum_add(&steps, (x[i] - x[i - 1]) * (x[i] - x[i - 1]));
    }
    *alike = sum_value(&square) > 0 ? 1 - sum_value(&steps) / (2 * sum_value(&square)) : 0;
    *correlated = *alike / sqrt((n - 2.0) / ((double)n * n - 1)) > 1.645;
    return sum_value(&square) / (n - 1);
}

/* How many independent samples n are worth that are so alike: the estimate, which is too low for few, is mended
 * first. */
static double worth(double n, double alike)
{
    double r = fmin(0.9, fmax(0, alike + (1 + 3 * alike) / n));
    return n * (1 - r) / (1 + r);
}

static int side(struct compare_side *s, struct steplog *log, int64_t skip)
{
    struct sum sum = {0}, square = {0};
    double mean[MOST_BATCHES], v = 0, alike = 0;
    for (size_t i = (size_t)skip; i < log->count; i++) {
        double x = each(steplog_step(log, i));
        if (!isnan(x))
            sum_add(&sum, x);
    }
    *s =
        (struct compare_side){.steps = sum.count, .mean_s = sum_mean(&sum), .tokens_per_s = 1 / sum_mean(&sum)};
    if (s->steps < COMPARE_LEAST_STEPS)
        return error(STATUS_USAGE, "%.0f steps with tokens and a time are too few to compare: %d are needed",
                     s->steps, COMPARE_LEAST_STEPS);
    for (size_t i = (size_t)skip; i < log->count; i++) {
        double x = each(steplog_step(log, i)) - s->mean_s;
        if (!isnan(x))
            sum_add(&square, x * x);
    }
    int batches = (int)fmin(MOST_BATCHES, s->steps);
    for (;; batches /= 2) {
        batch_means(mean, batches, log, skip, (size_t)s->steps);
        v = variance(mean, batches, &alike, &s->correlated);
        if (!s->correlated || batches / 2 < LEAST_BATCHES)
            break;
    }
    s->batches = batches;
    s->worth = worth(batches, alike);
    s->error = sqrt(v / s->worth) / s->mean_s;
    s->effective = v > 0 ? fmin(s->steps, sum_mean(&square) / (v / s->worth)) : s->steps;
    return 0;
}

/* ---- both ---- */

int compare_make(struct compare *c, struct steplog *a, struct steplog *b, int64_t skip_a, int64_t skip_b)
{
    if (side(&c->a, a, skip_a) < 0)
        return error_prefix("A");
    if (side(&c->b, b, skip_b) < 0)
        return error_prefix("B");
    double va = c->a.error * c->a.error, vb = c->b.error * c->b.error, error = sqrt(va + vb);
    double ratio = log(c->b.mean_s / c->a.mean_s);
    c->freedom =
        va + vb > 0
            ? floor((va + vb) * (va + vb) / (va * va / (c->a.batches - 1) + vb * vb / (c->b.batches - 1)))
            : 1;
    int freedom = (int)fmax(1, c->freedom);
    double t = fabs(ratio) / error, half = student_within(0.95, freedom) * error;
    c->slower = exp(ratio) - 1;
    c->low = exp(ratio - half) - 1;
    c->high = exp(ratio + half) - 1;
    c->p = isnan(t) ? 0.5 : fmax(0, (1 - student(t, freedom)) / 2);
    return 0;
}

bool compare_slower(const struct compare *c)
{
    return c->slower > 0 && c->p < COMPARE_P;
}

static void side_text(FILE *f, const char *letter, const char *name, const struct compare_side *s)
{
    struct texts w = {0};
    fprintf(f, "%s  %12s tokens/s  +-%s  %.0f steps, worth %.0f independent ones (%.0f batches%s)  %s\n",
            letter, text_number(&w, s->tokens_per_s), text_as(&w, "%.2g %%", 100 * s->error), s->steps,
            s->effective, s->batches, s->correlated ? ", which are still correlated" : "", name);
}

void compare_text(FILE *f, const struct compare *c, const char *name_a, const char *name_b)
{
    const char *how = c->slower > 0 ? "slower" : "faster";
    double low = c->slower > 0 ? c->low : -c->high, high = c->slower > 0 ? c->high : -c->low;
    side_text(f, "A", name_a, &c->a);
    side_text(f, "B", name_b, &c->b);
    fprintf(f, "%s: B takes %.3g %% %s time a token (95 %% confidence: %+.3g %% to %+.3g %%), p = %.2g\n",
            c->p >= COMPARE_P ? "no difference beyond noise"
            : c->slower > 0   ? "slower"
                              : "faster",
            100 * fabs(c->slower), c->slower > 0 ? "more" : "less", 100 * low, 100 * high, c->p);
    if (c->p >= COMPARE_P)
        fprintf(f, "a run that were %.3g %% %s would have been told from A\n",
                100 * 2.6 * sqrt(c->a.error * c->a.error + c->b.error * c->b.error), how);
    if (c->a.correlated || c->b.correlated)
        fprintf(f, "the runs are too short for how slowly their speed changes: be less sure than this\n");
}

static void side_json(FILE *f, const char *key, const struct compare_side *s)
{
    char buf[4][32];
    fprintf(f,
            "  \"%s\": {\"tokens_per_s\": %s, \"steps\": %s, \"effective_steps\": %s, \"relative_error\": %s, "
            "\"batches\": %.0f, \"correlated\": %s},\n",
            key, figure_text(s->tokens_per_s, buf[0]), figure_text(s->steps, buf[1]),
            figure_text(s->effective, buf[2]), figure_text(s->error, buf[3]), s->batches,
            s->correlated ? "true" : "false");
}

void compare_json(FILE *f, const struct compare *c)
{
    char buf[4][32];
    fputs("{\n", f);
    side_json(f, "a", &c->a);
    side_json(f, "b", &c->b);
    fprintf(f, "  \"slower\": %s,\n  \"low\": %s,\n  \"high\": %s,\n  \"p\": %s,\n  \"verdict\": \"%s\"\n}\n",
            figure_text(c->slower, buf[0]), figure_text(c->low, buf[1]), figure_text(c->high, buf[2]),
            figure_text(c->p, buf[3]),
            c->p >= COMPARE_P ? "same"
            : c->slower > 0   ? "slower"
                              : "faster");
}
