/* SPDX-License-Identifier: MIT */
/* The verdict on a plan: every rule, one finding each. */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "plan/plan.h"
#include "plan/rules.h"

struct finding {
    enum verdict verdict;
    const char *rule; /* id, as --rules lists */
    char text[400];   /* what, where, the numbers */
};
struct findings {
    struct finding *list;
    int count, fails, warns;
};
/* Asks every rule. A rule that cannot be asked because an earlier one fails is a warning that says so. */
void plan_check(const struct plan *p, struct findings *out);
/* Only those that can fail. */
void plan_prove(const struct plan *p, struct findings *out);
void findings_release(struct findings *f);

/* All rules in the order they are asked; NULL past the last. */
const struct rule *rule_at(int i);

#endif
