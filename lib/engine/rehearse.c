/* SPDX-License-Identifier: MIT */
#include "engine/rehearse.h"

#include "base/error.h"
#include "engine/buckets.h"
#include "engine/loads.h"
#include "engine/optimizer.h"
#include "engine/pipeline.h"
#include "engine/totals.h"

static int run_step(struct engine *e, const int32_t *tokens)
{
    struct hyper any = {.clip = 1, .step = 1};
    TRY(pipeline_run(e, &e->plan->programs[e->at.pp], tokens));
    TRY(gradients_reduce(e, false));
    gradients_square(e);
    TRY(totals_sum(e));
    TRY(loads_sum(e));
    TRY(optimizer_update(e, &any));
    loads_update_bias(e, 1);
    return totals_fetch(e);
}

int engine_rehearse(struct engine *e, const int32_t *tokens)
{
    const struct backend *be = e->be;
    struct backend rehearsal;
    void *dump = e->routing_dump;
    if (!be->prepare)
        return 0;
    backend_rehearsal(&rehearsal, be);
    e->be = &rehearsal;
    e->routing_dump = NULL; /* no step's */
    e->profile.quiet = true;
    comm_redirect(e->comm, &rehearsal);
    int r = run_step(e, tokens);
    comm_redirect(e->comm, be);
    be->prepare(false);
    e->profile.quiet = false;
    e->routing_dump = dump;
    e->be = be;
    return r == 0 ? be->sync(e->s) : r;
}
