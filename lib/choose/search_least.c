/* SPDX-License-Identifier: MIT */
#include "choose/search_least.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "choose/search_space.h"
#include "model/size.h"
#include "plan/axes.h"
#include "plan/states.h"

enum { MOST_TRIES = 64 };

/* Whether a leaf of the node fits. */
static bool node_fits(const struct layout_search *s, const struct node *n)
{
    struct opened o;
    const struct ways *w = &s->ways[n->ways];
    int from, to;
    bool fits = false;
    opened_init(&o, &s->base, &s->splits, n);
    space_zeros(s, &from, &to);
    for (int k = 0; k < w->count && !fits; k++) {
        o.p.training.schedule = w->list[k].schedule;
        opened_stages(&o, w->list[k].vpp, w->list[k].automatic);
        for (int zero = to; zero >= max64(from, min64(to, 2)) && !fits;
             zero--) { /* 2 needs less than 1 and 0 */
            double bytes;
            o.p.training.zero = zero;
            if (memory_closed(&o, false, &bytes) < 0)
                continue;
            for (int i = 0; i < n->spreads && !fits; i++)
                fits = bytes <= room_of(&o.p, &s->spreads[n->first_spread + i]);
        }
    }
    opened_release(&o);
    return fits;
}

/* Whether it has the smallest microbatch of those with its axes, which needs no more memory than a larger one:
 * nodes are as they were enumerated. */
static bool least_micro(const struct layout_search *s, int i)
{
    int first = i;
    while (first > 0 && s->nodes[first - 1].first_spread == s->nodes[i].first_spread &&
           s->nodes[first - 1].axes.tp == s->nodes[i].axes.tp)
        first--;
    return s->nodes[i].micro == s->nodes[first].micro;
}

/* Weights, gradients and states in equal parts on all ranks at best: on fewer than this, nothing fits. */
static int64_t ranks_for_states(const struct layout_search *s)
{
    const struct plan *p = &s->base;
    double bytes = (double)plan_type_bytes(p) + (p->training.grad_bf16 ? 2 : 4);
    for (int i = 0; i < STATES; i++)
        if (plan_keeps(p, i))
            bytes += p->training.moment_bf16 && i != STATE_MASTER ? 2 : 4;
    return (int64_t)fmin(MAX_WORLD, (double)model_parameters(&p->model) * bytes / p->machine.memory_bytes);
}

/* On so many ranks. The layouts that need least are tried first: a long pipeline, all recomputed. */
static bool fits_on(const struct layout_search *of, int64_t world)
{
    struct layout_search s = {.request = of->request, .base = of->base, .only_runnable = of->only_runnable};
    bool fits = false;
    s.base.world = (int)world;
    s.base.machine.nodes = ceil_div(world, s.base.machine.per_node);
    if (space_init(&s) == 0)
        space_enumerate(&s);
    for (int recompute = RECOMPUTE_FULL; recompute >= RECOMPUTE_NONE && !fits; recompute--)
        for (int i = s.node_count - 1; i >= 0 && !fits; i--)
            if ((int)s.nodes[i].recompute == recompute && least_micro(&s, i))
                fits = node_fits(&s, &s.nodes[i]);
    space_release(&s);
    return fits;
}

int search_fits_nowhere(const struct layout_search *s)
{
    const struct machine *m = &s->base.machine;
    int64_t step = max64(1, m->per_node), world = round_up(max64(s->base.world + 1, ranks_for_states(s)), step);
    char have[24];
    human_bytes(m->memory_bytes, have);
    for (int tries = 0; tries < MOST_TRIES && world <= MAX_WORLD; tries++, world += step)
        if (fits_on(s, world))
            return error(STATUS_USAGE,
                         "rule memory-fits: no layout on %d ranks fits: a rank has %s; %lld ranks would do",
                         s->base.world, have, (long long)world);
    return error(
        STATUS_USAGE,
        "rule memory-fits: no layout on %d ranks fits: a rank has %s; nor does one on fewer than %lld ranks",
        s->base.world, have, (long long)world);
}
