/* SPDX-License-Identifier: MIT */
/* What the formulas say of each claim at other sequence lengths, all else as in the plan. */
#ifndef CLAIM_LENGTHS_H
#define CLAIM_LENGTHS_H

#include "claim/judge.h"

enum { LENGTHS = 15 };
/* Twice the one before, from what tp and cp divide, 64 tokens at least. */
struct lengths {
    int64_t seq[LENGTHS];
    int count;
    unsigned *holds, *refuted; /* [claims.count] bits of seq */
};
void claims_by_length(struct lengths *l, const struct claims *c, const struct plan *p);
void lengths_release(struct lengths *l);

#endif
