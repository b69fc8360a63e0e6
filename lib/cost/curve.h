/* SPDX-License-Identifier: MIT */
/* What share of its peak a device reaches in a matrix product, by the product's work.
 *
 * Points of work and share, the work rising; between two of them the share is linear in the logarithm of the
 * work, beyond them that of the nearest. As text, in plans: "1e+09:0.2,1e+12:0.78". Small products reach less
 * because a device takes some time to fill whatever it computes. */
#ifndef COST_CURVE_H
#define COST_CURVE_H

#include <stdbool.h>
#include <stddef.h>

enum { CURVE_POINTS = 8, CURVE_TEXT = 120 };

struct curve {
    int count; /* 0: nothing is known, share 1 */
    struct curve_point {
        double flops, share;
    } at[CURVE_POINTS];
};

/* False where the point cannot follow: work not rising, a share not in (0,1], or too many points. */
bool curve_add(struct curve *c, double flops, double share);
/* From text, "" for none: 0, or -1 with error() (status 2). */
int curve_parse(struct curve *c, const char *text);
/* Into text: false when there is no room. */
bool curve_text(const struct curve *c, char text[static CURVE_TEXT]);
double curve_share(const struct curve *c, double flops);

#endif
