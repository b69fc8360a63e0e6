/* SPDX-License-Identifier: MIT */
#include "probe/health.h"

bool health_slow(const struct health *h, int rank, enum health_check check)
{
    const struct expectation *e = &h->expect[check];
    double x = h->rank[rank].value[check];
    bool slow = health_row[check].less ? x > e->value : x < e->least * e->value; /* not where one is NaN */
    return check < HEALTH_INSIDE && slow;
}

bool health_links_slow(const struct health *h, int rank)
{
    const struct health_rank *r = &h->rank[rank];
    return r->links > 1 && 2 * r->slow > r->links;
}

bool health_sick(const struct health *h, int rank)
{
    if (health_links_slow(h, rank))
        return true;
    for (int i = 0; i < HEALTH_CHECKS; i++)
        if (i != HEALTH_BUSY && health_slow(h, rank, i))
            return true;
    return false;
}

bool health_healthy(const struct health *h)
{
    for (int r = 0; r < h->ranks; r++)
        if (h->rank[r].slow || health_sick(h, r) || health_slow(h, r, HEALTH_BUSY))
            return false;
    return true;
}
