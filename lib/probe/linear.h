/* SPDX-License-Identifier: MIT */
/* A line through measurements: seconds = x·a + y·b, by least squares of relative errors. */
#ifndef PROBE_LINEAR_H
#define PROBE_LINEAR_H

struct observation {
    double x, y, seconds; /* seconds > 0 */
};
/* Neither a nor b comes out negative: then it is 0, and the other fitted alone. Returns the residual: the root
 * mean square of (fitted − seconds)/seconds, NaN without observations. */
double fit_line(const struct observation *list, int count, double *a, double *b);
/* The same residual for given a and b. */
double line_residual(const struct observation *list, int count, double a, double b);

#endif
