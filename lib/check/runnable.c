/* SPDX-License-Identifier: MIT */
#include "check/runnable.h"

#include "base/error.h"
#include "check/check.h"
#include "check/limits.h"

int plan_runnable(const struct plan *p)
{
    char text[400];
    if (plan_within_limits(p) < 0)
        return -1;
    const struct rule *r;
    for (int i = 0; (r = rule_at(i)); i++)
        if (r->sound && r->check(p, text) == VERDICT_FAIL)
            return error(STATUS_NO, "the plan is not valid: rule %s: %s", r->id, text);
    return 0;
}
