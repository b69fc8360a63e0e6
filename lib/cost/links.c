/* SPDX-License-Identifier: MIT */
#include "cost/links.h"

#include <math.h>

#include "base/num.h"

struct reach group_reach(const struct plan *p, enum group_kind kind, int rank)
{
    const struct plan_group *g = plan_group_of(p, kind, rank);
    struct reach s = {1, 1};
    int64_t here = 0, node = -1;
    if (!g)
        return s;
    s.ranks = g->size;
    for (int i = 0; i < g->size; i++) { /* members of a node follow each other, as ranks fill nodes in order */
        here = p->ranks[g->ranks[i]].node == node ? here + 1 : 1;
        node = p->ranks[g->ranks[i]].node;
        s.per_node = max64(s.per_node, here);
    }
    return s;
}

/* Bytes over a link; nothing needs none. */
static double over(double bytes, double Bps)
{
    return bytes > 0 ? (Bps > 0 ? bytes / (LINK_SHARE * Bps) : NAN) : 0;
}

static double slower(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

double gather_s(const struct machine *m, struct reach g, double bytes)
{
    double in = (double)g.per_node, nodes = (double)ceil_div(g.ranks, g.per_node);
    return slower(over((in - 1) / in * bytes, m->intra_Bps),
                  over((nodes - 1) / nodes * bytes / in, m->inter_Bps)) +
           (in - 1) * m->intra_s + (nodes - 1) * m->inter_s;
}

double exchange_s(const struct machine *m, struct reach g, double bytes)
{
    double in = (double)g.per_node, all = (double)g.ranks;
    return slower(over((in - 1) / all * bytes, m->intra_Bps), over((all - in) / all * bytes, m->inter_Bps)) +
           (all > 1 ? m->intra_s : 0) + (all > in ? m->inter_s : 0);
}

double message_s(const struct machine *m, bool across, double bytes)
{
    return over(bytes, across ? m->inter_Bps : m->intra_Bps) + (across ? m->inter_s : m->intra_s);
}

/* Of `nodes`, how many besides its own a token's K experts are expected on: drawn without replacement. */
static double other_nodes(const struct plan *p, double nodes)
{
    double E = (double)p->model.experts, none = 1;
    for (int64_t k = 0; k < p->model.top_k; k++)
        none *= fmax(0, E - E / nodes - (double)k) / (E - (double)k);
    return (nodes - 1) * (1 - none);
}

double dispatch_s(const struct plan *p, struct reach ep, double n, double row, double lambda)
{
    const struct machine *m = &p->machine;
    double copies = n * (double)p->model.top_k * row * lambda;
    if (p->training.dispatcher == DISPATCHER_ALLTOALL || ep.ranks == ep.per_node)
        return exchange_s(m, ep, copies);
    double in = (double)ep.per_node, nodes = (double)ceil_div(ep.ranks, ep.per_node);
    return slower(over((in - 1) / in * copies, m->intra_Bps),
                  over(n * row * lambda * other_nodes(p, nodes), m->inter_Bps)) +
           m->intra_s + m->inter_s;
}
