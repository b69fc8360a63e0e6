/* SPDX-License-Identifier: MIT */
#include "check/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "plan/slots.h"

struct features {
    char text[400];
};

static void add(struct features *f, const char *fmt, ...)
{
    size_t n = strlen(f->text);
    va_list ap;
    if (n && n + 2 < sizeof f->text)
        n = (size_t)(stpcpy(f->text + n, ", ") - f->text);
    va_start(ap, fmt);
    vsnprintf(f->text + n, sizeof f->text - n, fmt, ap);
    va_end(ap);
}

int plan_within_limits(const struct plan *p)
{
    const struct training *t = &p->training;
    struct features f = {""};
    if (p->axes.cp > 1)
        add(&f, "cp %lld", (long long)p->axes.cp);
    if (t->zero > 1)
        add(&f, "zero %d", t->zero);
    if (t->precision == PRECISION_FP8)
        add(&f, "precision fp8");
    if (t->dispatcher != DISPATCHER_ALLTOALL)
        add(&f, "dispatcher %s", dispatcher_name[t->dispatcher]);
    if (t->grad_bf16)
        add(&f, "bf16 gradients");
    if (t->moment_bf16)
        add(&f, "bf16 moments");
    if (p->routing.local_scope)
        add(&f, "capacity scope local");
    if (p->model.window && p->model.window < p->batch.seq)
        add(&f, "a sliding window of %lld tokens in sequences of %lld", (long long)p->model.window,
            (long long)p->batch.seq);
    if (plan_replicas(p))
        add(&f, "%lld replicas of experts a layer, whose gradients it does not sum",
            (long long)plan_replicas(p));
    if (*p->model.plan_only)
        add(&f, "this model: %s", p->model.plan_only);
    if (*f.text)
        return error(STATUS_USAGE, "this is for planning only; moe-train cannot run %s", f.text);
    return 0;
}
