/* SPDX-License-Identifier: MIT */
#include "cost/rows.h"

#include <math.h>

#include "base/num.h"
#include "plan/layout.h"
#include "plan/slots.h"

double reserved_rows(const struct plan *p, int64_t n)
{
    const struct model *m = &p->model;
    int64_t sources = p->axes.ep * p->axes.etp, local = plan_most_slots(p);
    double most = (double)(n * sources) * (double)min64(m->top_k, local);
    double want = (double)(n * m->top_k) * (double)p->axes.etp;
    if (p->axes.ep > 1)
        want = floor(p->routing.lambda * plan_unevenness(p) * want + 0.999999);
    int64_t limit = plan_expert_capacity(p, plan_microbatch_tokens(p));
    if (limit) {
        int64_t shares = max64(1, ceil_div(n * sources, plan_microbatch_tokens(p)));
        want = (double)limit * (double)local * (double)shares;
    }
    return fmax(1, fmin(want, most));
}
