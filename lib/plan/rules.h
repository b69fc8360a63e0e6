/* SPDX-License-Identifier: MIT */
/* Rules on the shape of a plan: what plan_make() asks before it lays anything out, and plan_check() proves
 * again. */
#ifndef PLAN_RULES_H
#define PLAN_RULES_H

#include "plan/plan.h"

#define MAX_EXPERT_SLOTS (1 << 20) /* layers · experts */

struct rule {
    const char *id, *proves;
    /* Text: on FAIL and warn the numbers and the nearest legal values, on ok the numbers. */
    enum verdict (*check)(const struct plan *p, char text[static 400]);
};
extern const struct rule shape_rules[], plan_rules[];
extern const int shape_rule_count, plan_rule_count; /* plan_rules: the rest of --rules, check.c */

/* The first shape rule that fails becomes error(STATUS_USAGE, "rule ID: …"). */
int shape_legal(const struct plan *p);

/* "1, 2 or 4": divisors of n, those nearest to `to`. */
void near_divisors(char *buf, size_t room, int64_t n, int64_t to);

#endif
