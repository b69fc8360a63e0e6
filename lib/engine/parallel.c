/* SPDX-License-Identifier: MIT */
/* Tensor parallelism with sequence parallelism (Megatron-LM, arXiv 2205.05198): activations between blocks are
 * cut by token, inside blocks by feature. A block starts with an all-gather over tp and ends with a
 * reduce-scatter. */
#include "engine/parallel.h"

#include "comm/collective.h"

const void *tp_gather(struct engine *e, const void *x, void *buffer, int64_t width)
{
    if (e->tp == 1)
        return x;
    enum phase before = profile_enter(&e->profile, PHASE_TP);
    int r = all_gather(e->group[GROUP_TP], e->s, x, buffer, (size_t)(e->n * width) * type_bytes(e->type));
    profile_enter(&e->profile, before);
    return r < 0 ? NULL : buffer;
}

void *tp_partial(struct engine *e, void *out)
{
    return e->tp == 1 ? out : e->ws->partial;
}

int tp_reduce(struct engine *e, void *out)
{
    if (e->tp == 1)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_TP);
    int r = reduce_scatter(e->group[GROUP_TP], e->s, e->type, e->ws->partial, out, e->n * e->H);
    profile_enter(&e->profile, before);
    return r;
}
