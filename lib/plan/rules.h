/* SPDX-License-Identifier: MIT */
/* Rules on the shape of a plan: what plan_make() asks before it lays anything out, and plan_check() proves
 * again. */
#ifndef PLAN_RULES_H
#define PLAN_RULES_H

#include "plan/plan.h"

#define MAX_EXPERT_SLOTS (1 << 20) /* layers · experts */

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

/* What must hold before a rule can be asked. */
enum needs {
    NEEDS_NOTHING,
    NEEDS_AXES, /* no failure of an axes- or kv-heads rule */
    NEEDS_ALL,  /* no failure before it, but of memory-fits */
};

struct rule {
    const char *id, *proves;
    /* Text: on FAIL and warn the numbers and the nearest legal values, on ok the numbers. */
    enum verdict (*check)(const struct plan *p, char text[static 400]);
    enum needs needs;
    bool advice; /* warns at most: a plan that it finds fault with is valid (check/advice.h) */
};
extern const struct rule shape_rules[];
extern const int shape_rule_count;

/* snprintf into text, returning v. */
enum verdict verdict_say(char text[static 400], enum verdict v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The first shape rule that fails becomes error(STATUS_USAGE, "rule ID: …"). */
int shape_legal(const struct plan *p);

#endif
