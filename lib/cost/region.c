/* SPDX-License-Identifier: MIT */
#include "cost/region.h"

void region_take(struct region *b, int number, int chunk, int64_t bytes)
{
    struct stay *list = b->list;
    int at = b->from, next;
    for (; (next = list[at].after) && list[next].begin - list[at].end < bytes; at = next)
        if (at == b->from && list[next].begin - list[at].end < b->smallest)
            b->from = next;
    list[number] = (struct stay){.begin = list[at].end,
                                 .end = list[at].end + bytes,
                                 .before = at,
                                 .after = next,
                                 .chunk = chunk,
                                 .taken = true,
                                 .lives = true};
    list[at].after = number;
    if (next)
        list[next].before = number;
    if (b->from == at)
        b->from = number;
}

void region_free(struct region *b, int number)
{
    struct stay *list = b->list, *x = &list[number];
    if (!x->lives)
        return;
    x->lives = false;
    list[x->before].after = x->after;
    if (x->after)
        list[x->after].before = x->before;
    if (b->from == number || list[x->before].end < list[b->from].end)
        b->from = x->before;
}
