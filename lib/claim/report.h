/* SPDX-License-Identifier: MIT */
/* The verdicts on a list of claims, for people, as TAP or as JSON. */
#ifndef CLAIM_REPORT_H
#define CLAIM_REPORT_H

#include <stdio.h>

#include "claim/agree.h"
#include "claim/lengths.h"

struct claims_report {
    const struct claims *claims;
    const struct judged *judged; /* [claims.count] */
    const struct agreement *agreement;
    const struct lengths *lengths;
    const struct plan *plan;
};

void claims_print(const struct claims_report *r, FILE *f);
void claims_tap(const struct claims_report *r, FILE *f);
void claims_json(const struct claims_report *r, FILE *f);
/* How many are refuted, or contradict another at the plan's own sequence length, top-k and precision. */
int claims_wrong(const struct claims_report *r);

#endif
