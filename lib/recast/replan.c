/* SPDX-License-Identifier: MIT */
#include "recast/replan.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/notice.h"
#include "choose/make.h"
#include "ckpt/names.h"
#include "plan/schedule.h"
#include "plan/text.h"

static int64_t common_divisor(int64_t a, int64_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* What asks for the plan anew. */
static struct request asks_again(const struct plan *p, const char *model)
{
    const struct training *t = &p->training;
    return (struct request){
        .model = model,
        .world = p->world,
        .axes = p->axes,
        .batch = p->batch,
        .routing = p->routing,
        .precision = precision_name[t->precision],
        .recompute = recompute_name[t->recompute],
        .dispatcher = dispatcher_name[t->dispatcher],
        .schedule = schedules[t->schedule].name,
        .scope = p->routing.local_scope ? "local" : "microbatch",
        .drop = p->routing.drop_position ? "position" : "prob",
        .overlap = t->overlap ? "on" : "off",
        .grad_dtype = t->grad_bf16 ? "bf16" : "f32",
        .moment_dtype = t->moment_bf16 ? "bf16" : "f32",
        .zero = t->zero,
        .bucket_bytes = t->bucket_bytes,
        .made_by = "moe-ckpt",
    };
}

static int make_plan(struct plan *new, const struct plan *old, const char *model, int64_t experts)
{
    struct request r = asks_again(old, model);
    if (plan_make(new, &r) == 0)
        return 0;
    r.axes.ep = common_divisor(old->axes.ep, experts);
    r.axes.edp = 0;
    if (plan_make(new, &r) == 0)
        return 0;
    r.axes = (struct axes){0};
    r.world = 1;
    r.schedule = NULL;
    TRY(plan_make(new, &r));
    notice("the layout is not legal with %lld experts: the new " PLAN_FILE " is for one rank",
           (long long)experts);
    return 0;
}

char *replan_text(const char *step, const char *model, int64_t experts, size_t *bytes)
{
    struct plan old, new = {0};
    char *path = path_join(step, PLAN_FILE), *text = NULL;
    int rc = plan_read(&old, path);
    free(path);
    if (rc < 0)
        return NULL;
    rc = make_plan(&new, &old, model, experts);
    if (rc == 0) {
        /* not its directory's, which will have another */
        memcpy(new.model.name, old.model.name, sizeof new.model.name);
        FILE *f = open_memstream(&text, bytes);
        rc = plan_write(&new, f);
        fclose(f);
        plan_release(&new);
    }
    plan_release(&old);
    if (rc == 0)
        return text;
    free(text);
    return NULL;
}
