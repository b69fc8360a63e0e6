/* SPDX-License-Identifier: MIT */
#include "comm/tree.h"

#include <stdint.h>

#include "base/num.h"

enum { BASE = TREE_CHILDREN / 8 + 1 };

/* The value of the last digit of p that is not 0; for 0 the first power of the base that is n or more. */
static int64_t place_of(int p, int n)
{
    int64_t place = 1;
    while (p ? p / place % BASE == 0 : place < n)
        place *= BASE;
    return place;
}

int tree_parent(int p, int n)
{
    int64_t place = place_of(p, n);
    return (int)(p - p / place % BASE * place);
}

int tree_span(int p, int n)
{
    return (int)min64(place_of(p, n), n - p);
}

int tree_children(int p, int n, int child[static TREE_CHILDREN])
{
    int count = 0;
    int64_t end = place_of(p, n);
    for (int64_t place = 1; place < end; place *= BASE)
        for (int digit = 1; digit < BASE && p + digit * place < n; digit++)
            child[count++] = (int)(p + digit * place);
    return count;
}
