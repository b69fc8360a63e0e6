/* SPDX-License-Identifier: MIT */
#include "probe/linear.h"

#include <math.h>
#include <stdbool.h>

double line_residual(const struct observation *list, int count, double a, double b)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += pow((list[i].x * a + list[i].y * b) / list[i].seconds - 1, 2);
    return sqrt(sum / count);
}

double fit_line(const struct observation *list, int count, double *a, double *b)
{
    double xx = 0, xy = 0, yy = 0, x1 = 0, y1 = 0; /* of x and y over seconds */
    for (int i = 0; i < count; i++) {
        double x = list[i].x / list[i].seconds, y = list[i].y / list[i].seconds;
        xx += x * x;
        xy += x * y;
        yy += y * y;
        x1 += x;
        y1 += y;
    }
    double det = xx * yy - xy * xy;
    *a = det > 0 ? (x1 * yy - y1 * xy) / det : -1;
    *b = det > 0 ? (y1 * xx - x1 * xy) / det : -1;
    if (*b < 0 || *a < 0) { /* one of them alone: whichever is nearer */
        double x_only = xx > 0 ? x1 / xx : 0, y_only = yy > 0 ? y1 / yy : 0;
        bool x = line_residual(list, count, x_only, 0) <= line_residual(list, count, 0, y_only);
        *a = x ? x_only : 0;
        *b = x ? 0 : y_only;
    }
    return line_residual(list, count, *a, *b);
}
