/* SPDX-License-Identifier: MIT */
/* What claims are made on besides figures: numbers that the plan's layout gives. One table; moe-claims(5)
 * lists it. To add one: a function and a row. */
#ifndef CLAIM_FACTS_H
#define CLAIM_FACTS_H

#include "plan/plan.h"
#include "stat/summary.h"

/* What was found for a claim. */
enum { FOUND_TEXT = 240 };
struct known_value {
    double value; /* NaN: not known, and `how` says what is missing */
    double error; /* relative, of the formulas: 0 for what is exact */
    char how[FOUND_TEXT];
};

/* What it is found of. */
struct about {
    const struct plan *p;
    const struct summary *log; /* NULL: no log */
    double arg;                /* NaN: none */
};

struct fact {
    const char *name;
    enum unit unit;
    const char *arg; /* what its /ARG is; NULL: it has none */
    const char *meaning;
    void (*find)(const struct about *a, struct known_value *f);
};
extern const struct fact facts[]; /* a NULL name ends them */

/* `how`, where there are no figures to count a step's seconds with. */
#define NO_SECONDS "the cluster says too little to count seconds with"

void found_is(struct known_value *f, double value, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Of a microbatch of so many tokens, in a plan whose top-k and factor may be others. */
double capacity_with(const struct plan *p, int64_t seq, int64_t top_k, double factor);

#endif
