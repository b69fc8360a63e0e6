/* SPDX-License-Identifier: MIT */
#include "cost/memory.h"

#include <stdlib.h>

#include "base/memory.h"
#include "cost/arena.h"
#include "cost/communicators.h"
#include "plan/slots.h"

int memory_of_rank(const struct plan *p, int rank, struct memory *m)
{
    struct shards s;
    struct arena a;
    shards_sizes(&s, p, &p->ranks[rank]);
    int r = arena_layout(&a, p, rank, &s, NULL);
    if (r == 0) {
        *m = a.bytes;
        arena_release(&a);
    }
    return r;
}

int memory_predict(struct plan *p)
{
    /* Ranks with the same place in the pipeline and the tensor axis need the same, and with as many experts. */
    int64_t ep = plan_slots_alike(p) ? 1 : p->axes.ep;
    bool *seen = xcalloc(p->axes.pp * p->axes.tp * ep, sizeof *seen);
    int r = 0;
    p->predict.memory_bytes = -1;
    p->predict.arena = ARENA_VERSION;
    p->predict.communicator_bytes = (double)plan_communicator_bytes(p);
    for (int i = 0; i < p->world && r == 0; i++) {
        const struct coords *at = &p->ranks[i];
        bool *s = &seen[(at->pp * p->axes.tp + at->tp) * ep + at->ep % ep];
        if (*s)
            continue;
        *s = true;
        struct memory m;
        r = memory_of_rank(p, i, &m);
        if (r == 0 && (double)m.total > p->predict.memory_bytes) {
            p->predict.memory_rank = i;
            p->predict.memory_bytes = (double)m.total;
            p->predict.state_bytes = (double)(m.weights + m.gradients + m.optimizer);
            p->predict.activation_bytes = (double)m.activations;
            p->predict.workspace_bytes = (double)m.workspace;
        }
    }
    free(seen);
    return r;
}
