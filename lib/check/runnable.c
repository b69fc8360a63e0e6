/* SPDX-License-Identifier: MIT */
#include "check/runnable.h"

#include <string.h>

#include "base/error.h"
#include "base/notice.h"
#include "check/check.h"
#include "check/limits.h"

/* Fails at the first rule that does, but for these. */
static int rules_hold(const struct plan *p, int status, const char *const *but)
{
    struct findings f;
    int r = 0;
    plan_prove(p, &f);
    for (int i = 0; i < f.count && r == 0; i++) {
        bool asked = f.list[i].verdict == VERDICT_FAIL;
        for (const char *const *b = but; *b; b++)
            asked = asked && strcmp(f.list[i].rule, *b) != 0;
        if (asked)
            r = error(status, "the plan is not valid: rule %s: %s (see moe-plan-check)", f.list[i].rule,
                      f.list[i].text);
    }
    findings_release(&f);
    return r;
}

int plan_sound(const struct plan *p)
{
    static const char *const but[] = {"memory-fits", "predict-matches", NULL};
    return rules_hold(p, STATUS_NO, but);
}

int plan_valid(const struct plan *p, int status)
{
    static const char *const but[] = {"memory-fits", NULL};
    return rules_hold(p, status, but);
}

int plan_runnable(const struct plan *p)
{
    TRY(plan_valid(p, STATUS_NO));
    return plan_within_limits(p);
}

void plan_remarks(const struct plan *p)
{
    static const char *const told[] = {"experts-divide", "positions-reach", "stages-filled", "runnable"};
    const struct rule *r;
    char text[400];
    for (int i = 0; (r = rule_at(i)); i++)
        for (size_t k = 0; k < sizeof told / sizeof *told; k++)
            if (strcmp(r->id, told[k]) == 0 && r->check(p, text) == VERDICT_WARN)
                notice("%s", text);
    error_clear();
}
