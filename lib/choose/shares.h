/* SPDX-License-Identifier: MIT */
/* Where the seconds of a step go: the parts of the busiest stage (cost/layer.h), and what is around them. */
#ifndef CHOOSE_SHARES_H
#define CHOOSE_SHARES_H

#include "cost/seconds.h"

enum { SHARES = PARTS + 3 };
struct step_shares {
    double s[SHARES]; /* they add up to the step */
};
int shares_of(const struct plan *p, struct step_shares *x);
const char *share_name(int i);
/* The share that grew most from one to the other, at least by `least` seconds; -1: none. */
int share_lost(const struct step_shares *from, const struct step_shares *to, double least);

#endif
