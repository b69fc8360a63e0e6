/* SPDX-License-Identifier: MIT */
#include "emit/hosts.h"

#include <stdlib.h>

#include "base/memory.h"

void host_map_make(struct host_map *h, const struct plan *p)
{
    int nodes = 0;
    for (int r = 0; r < p->world; r++)
        nodes = p->ranks[r].node >= nodes ? p->ranks[r].node + 1 : nodes;
    int *ranks = xcalloc((size_t)nodes, sizeof *ranks), *host = xcalloc((size_t)nodes, sizeof *host);
    for (int r = 0; r < p->world; r++)
        ranks[p->ranks[r].node]++;
    *h = (struct host_map){.of_rank = xcalloc((size_t)p->world, sizeof(int)), .even = true};
    for (int n = 0; n < nodes; n++)
        if (ranks[n] > 0) {
            host[n] = h->count++;
            h->most = ranks[n] > h->most ? ranks[n] : h->most;
        }
    for (int r = 0; r < p->world; r++) {
        h->of_rank[r] = host[p->ranks[r].node];
        h->even = h->even && h->of_rank[r] == r / h->most;
    }
    h->even = h->even && p->world == h->count * h->most;
    free(ranks);
    free(host);
}

void host_map_release(struct host_map *h)
{
    free(h->of_rank);
    *h = (struct host_map){0};
}
