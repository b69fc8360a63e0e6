/* SPDX-License-Identifier: MIT */
#include "engine/rehearse.h"

#include "base/error.h"
#include "engine/pipeline.h"

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
    int r = pipeline_run(e, &e->plan->programs[e->at.pp], tokens);
    comm_redirect(e->comm, be);
    be->prepare(false);
    e->profile.quiet = false;
    e->routing_dump = dump;
    e->be = be;
    return r == 0 ? be->sync(e->s) : r;
}
