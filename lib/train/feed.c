/* SPDX-License-Identifier: MIT */
#include "train/feed.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"

void feed_mark(struct run *run)
{
    const struct plan *p = &run->plan;
    const struct coords *at = &run->e.at;
    bool reads = plan_is_first(p, at->pp) || plan_is_last(p, at->pp);
    run->want = xcalloc((size_t)p->batch.global, sizeof *run->want);
    for (int64_t i = 0; i < p->batch.global && reads; i++)
        run->want[i] = i / p->batch.micro % p->axes.dp == (fault("data-same-dp") ? 0 : at->dp);
    run->tokens = xcalloc((size_t)(p->batch.microbatches * p->batch.micro),
                          (size_t)(p->batch.seq + 1) * sizeof *run->tokens);
}

int feed_open(struct run *run)
{
    const struct plan *p = &run->plan;
    uint64_t seed = (uint64_t)run->recipe.seed;
    run->data = data_open(run->o->data, p->batch.seq, p->model.vocab, seed, run->o->shuffle);
    if (!run->data)
        return -1;
    if (run->o->eval && !(run->eval = data_open(run->o->eval, p->batch.seq, p->model.vocab, seed, false)))
        return -1;
    if (run->o->dump_routing) {
        char *path = xasprintf("%s.%d", run->o->dump_routing, comm_rank(run->comm));
        run->routing = fopen(path, "wb");
        int r = run->routing ? 0 : error_errno("cannot write '%s'", path);
        free(path);
        run->e.routing_dump = run->routing;
        return r;
    }
    return 0;
}
