/* SPDX-License-Identifier: MIT */
#include "check/limits.h"

#include "base/error.h"

int plan_within_limits(const struct plan *p)
{
    const struct training *t = &p->training;
    const char *what = "this is for planning only; moe-train cannot run";
    if (p->axes.cp > 1)
        return error(STATUS_USAGE, "%s cp %lld", what, (long long)p->axes.cp);
    if (t->zero > 1)
        return error(STATUS_USAGE, "%s zero %d", what, t->zero);
    if (t->precision == PRECISION_FP8)
        return error(STATUS_USAGE, "%s precision fp8", what);
    if (t->overlap)
        return error(STATUS_USAGE, "%s overlap on", what);
    if (t->dispatcher != DISPATCHER_ALLTOALL)
        return error(STATUS_USAGE, "%s dispatcher %s", what, dispatcher_name[t->dispatcher]);
    if (t->grad_bf16)
        return error(STATUS_USAGE, "%s bf16 gradients", what);
    if (t->moment_bf16)
        return error(STATUS_USAGE, "%s bf16 moments", what);
    if (p->routing.local_scope)
        return error(STATUS_USAGE, "%s capacity scope local", what);
    if (p->model.window && p->model.window < p->batch.seq)
        return error(STATUS_USAGE, "%s a sliding window of %lld tokens in sequences of %lld", what,
                     (long long)p->model.window, (long long)p->batch.seq);
    if (*p->model.plan_only)
        return error(STATUS_USAGE, "%s this model: %s", what, p->model.plan_only);
    return 0;
}
