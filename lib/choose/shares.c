/* SPDX-License-Identifier: MIT */
#include "choose/shares.h"

#include <string.h>

#include "base/error.h"

const char *share_name(int i)
{
    static const char *const around[] = {"idle in the pipeline", "summing gradients", "optimizer"};
    return i < PARTS ? part_name[i] : around[i - PARTS];
}

int shares_of(const struct plan *p, struct step_shares *x)
{
    struct seconds t;
    TRY(plan_seconds(p, 1, &t));
    memcpy(x->s, t.part_s, sizeof t.part_s);
    x->s[PARTS] = t.idle_s;
    x->s[PARTS + 1] = t.dp_s;
    x->s[PARTS + 2] = t.optimizer_s;
    return 0;
}

int share_lost(const struct step_shares *from, const struct step_shares *to, double least)
{
    int worst = -1;
    for (int i = 0; i < SHARES; i++)
        if (to->s[i] - from->s[i] > least) {
            least = to->s[i] - from->s[i];
            worst = i;
        }
    return worst;
}
