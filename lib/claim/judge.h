/* SPDX-License-Identifier: MIT */
/* The verdict on each claim by itself. What seconds it rests on are off by some (SECONDS_ERROR): where another
 * value within that would change the verdict, it is undecided. */
#ifndef CLAIM_JUDGE_H
#define CLAIM_JUDGE_H

#include "claim/claims.h"
#include "claim/facts.h"

enum judgement { CLAIM_HOLDS, CLAIM_REFUTED, CLAIM_UNDECIDED };
extern const char *const judgement_name[]; /* holds refuted undecided */

struct judged {
    enum judgement judgement;
    struct known_value found;   /* its value NaN for what is no number */
    char text[FOUND_TEXT + 80]; /* the value, and how it comes about; or what is missing */
};

/* p's predictions are those of its machine; log may be NULL. Into [claims.count]. */
void claims_judge(const struct claims *c, const struct plan *p, const struct summary *log, struct judged *out);

#endif
