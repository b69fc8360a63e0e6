/* SPDX-License-Identifier: MIT */
#include "train/feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "train/truth.h"

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

/* Text is not tokenised: of a larger vocabulary its bytes are other words than its author's. */
static void remark_text(const struct data *d, int64_t vocab)
{
    for (int i = 0; i < data_sources(d) && vocab > 256; i++)
        if (data_is_text(d, i)) {
            notice("'%s' is read as bytes, 256 tokens of the vocabulary's %lld; tokenized data have a .bin and "
                   "a .idx",
                   data_name(d, i), (long long)vocab);
            return;
        }
}

/* Opens what --data or --eval names; all ranks must see the same. */
static int open_data(struct run *run, const char *what, const char *spec, bool shuffle, struct data **data)
{
    const struct plan *p = &run->plan;
    *data = data_open(spec, p->batch.seq, p->model.vocab, (uint64_t)run->recipe.seed, shuffle);
    char *seen = *data ? data_seen(*data) : NULL;
    int r = truth_compare(run, seen ? 0 : -1, what, seen, true);
    free(seen);
    if (r == 0)
        remark_text(*data, p->model.vocab);
    return r;
}

static int open_routing(struct run *run)
{
    char *path = xasprintf("%s.%d", run->o->dump_routing, comm_rank(run->comm));
    run->routing = fopen(path, "wb");
    int r = run->routing ? 0 : error_errno("cannot write '%s'", path);
    free(path);
    run->e.routing_dump = run->routing;
    return r;
}

int feed_open(struct run *run)
{
    TRY(open_data(run, "--data", run->o->data, strcmp(run->recipe.shuffle, "yes") == 0, &run->data));
    if (run->o->eval && !run->o->eval_every)
        notice("--eval without --eval-every: nothing is evaluated");
    if (run->o->eval)
        TRY(open_data(run, "--eval", run->o->eval, false, &run->eval));
    return run->o->dump_routing ? run_agree(run, open_routing(run)) : 0;
}
