/* SPDX-License-Identifier: MIT */
#include "choose/search_least.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "choose/search_space.h"
#include "plan/axes.h"

/* Whether a leaf of the node fits. */
static bool node_fits(const struct layout_search *s, const struct node *n, double *least)
{
    struct opened o;
    const struct ways *w = &s->ways[n->ways];
    int from = s->request.zero >= 0 ? (int)s->request.zero : 0, to = s->request.zero >= 0 ? from
                                                                     : s->only_runnable   ? 1
                                                                                          : 3;
    bool fits = false;
    opened_init(&o, &s->base, &s->splits, n);
    for (int k = 0; k < w->count && !fits; k++) {
        o.p.training.schedule = w->list[k].schedule;
        opened_stages(&o, w->list[k].vpp, w->list[k].automatic);
        for (int zero = to; zero >= from && !fits; zero--) {
            double bytes;
            o.p.training.zero = zero;
            if (memory_closed(&o, false, &bytes) < 0)
                continue;
            *least = fmin(*least, bytes);
            fits = bytes <= s->base.machine.memory_bytes;
        }
    }
    opened_release(&o);
    return fits;
}

/* On so many ranks. The layouts that need least are tried first: a long pipeline, all recomputed. */
static bool fits_on(const struct layout_search *of, int64_t world, double *least)
{
    struct layout_search s = {.request = of->request, .base = of->base, .only_runnable = of->only_runnable};
    bool fits = false;
    s.base.world = (int)world;
    s.base.machine.nodes = ceil_div(world, s.base.machine.per_node);
    if (space_init(&s) == 0)
        space_enumerate(&s);
    for (int recompute = RECOMPUTE_FULL; recompute >= RECOMPUTE_NONE && !fits; recompute--)
        for (int i = s.node_count - 1; i >= 0 && !fits; i--)
            if ((int)s.nodes[i].recompute == recompute)
                fits = node_fits(&s, &s.nodes[i], least);
    space_release(&s);
    return fits;
}

int search_fits_nowhere(const struct layout_search *s)
{
    const struct machine *m = &s->base.machine;
    int64_t step = max64(1, m->per_node), most = min64(MAX_WORLD, max64(64, 16 * (int64_t)s->base.world));
    double least = INFINITY, more = INFINITY;
    char need[24], have[24];
    fits_on(s, s->base.world, &least);
    human_bytes(least, need);
    human_bytes(m->memory_bytes, have);
    /* All states are cut over the ranks at best, so that fewer than this cannot do. */
    for (int64_t world = round_up(s->base.world + 1, step); world <= most; world += step)
        if (fits_on(s, world, &more))
            return error(
                STATUS_USAGE,
                "rule memory-fits: no layout on %d ranks fits: the least that a rank needs is %s, it has %s; "
                "%lld ranks would do",
                s->base.world, need, have, (long long)world);
    return error(
        STATUS_USAGE,
        "rule memory-fits: no layout on %d ranks fits: the least that a rank needs is %s, it has %s; nor "
        "does one on up to %lld ranks",
        s->base.world, need, have, (long long)most);
}
