/* SPDX-License-Identifier: MIT */
#include "choose/drops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/ranges.h"
#include "model/load_table.h"

static int64_t count_gone(const bool *gone, int64_t experts)
{
    int64_t n = 0;
    for (int64_t e = 0; e < experts; e++)
        n += gone[e];
    return n;
}

/* The least loaded of these go too, of equal ones the later, until `count` are gone. */
static void drop_least(bool *gone, const double *loads, int64_t experts, int64_t count)
{
    for (int64_t n = count_gone(gone, experts); n < count; n++) {
        int64_t least = -1;
        for (int64_t e = 0; e < experts; e++)
            if (!gone[e] && (least < 0 || loads[e] <= loads[least]))
                least = e;
        gone[least] = true;
    }
}

static void say_row(const struct drops *d, int layer, const bool *named)
{
    int *list = xcalloc((size_t)d->experts, sizeof *list), n = 0;
    for (int e = 0; e < d->experts; e++)
        if (drops_has(d, layer, e) && !named[layer * d->experts + e])
            list[n++] = e;
    char *text = ranges_text(list, n);
    if (n)
        notice("layer %d: expert%s %s, the least loaded, %s too, so that all layers keep %lld", layer,
               plural(n), text, n > 1 ? "go" : "goes", (long long)d->kept);
    free(text);
    free(list);
}

/* How many go of the group that loses most. */
static int64_t most_gone(const struct drops *d, const struct model *m)
{
    int64_t each = m->experts / m->groups, most = 0;
    for (int l = 0; l < m->layers; l++)
        for (int64_t g = 0; g < m->groups; g++)
            most = max64(most, count_gone(d->gone + l * m->experts + g * each, each));
    return most;
}

static int even_out(struct drops *d, const struct model *m, int64_t most, const char *path)
{
    int64_t each = m->experts / m->groups, layer = 0;
    size_t all = (size_t)(m->layers * m->experts);
    struct load_table table = {0};
    if (path && (load_table_read(&table, path) < 0 || load_table_fits(&table, m, path) < 0)) {
        load_table_release(&table);
        return -1;
    }
    const double *loads = table.load;
    bool *named = xcalloc(all, sizeof *named);
    memcpy(named, d->gone, all * sizeof *named);
    int rc = 0;
    for (int l = 0; l < m->layers && rc == 0; l++) {
        for (int64_t g = 0; m->moe[l] && g < m->groups && rc == 0; g++) {
            bool *gone = d->gone + l * m->experts + g * each;
            if (loads)
                drop_least(gone, loads + layer * m->experts + g * each, each, most);
            else if (count_gone(gone, each) != most)
                rc =
                    error(STATUS_USAGE,
                          "--drop-experts: of layer %d%s go %lld experts, of another %lld, and config.json has "
                          "one count: name as many of each, or give --loads FILE and the least loaded go too",
                          l, m->groups > 1 ? ", in a group," : "", (long long)count_gone(gone, each),
                          (long long)most);
        }
        layer += m->moe[l];
        if (rc == 0)
            say_row(d, l, named);
    }
    free(named);
    load_table_release(&table);
    return rc;
}

int drops_init(struct drops *d, const struct model *m)
{
    *d = (struct drops){0};
    if (!m->moe_layers)
        return error(STATUS_USAGE, "the model is dense: it has no experts");
    *d = (struct drops){xcalloc((size_t)(m->layers * m->experts), sizeof(bool)), m->experts, m->experts};
    return 0;
}

int drops_even(struct drops *d, const struct model *m, const char *loads)
{
    int64_t most = most_gone(d, m);
    d->kept = m->experts - most * m->groups;
    if (most == 0)
        return error(STATUS_USAGE, "--drop-experts: nothing is named in a layer that has experts");
    if (d->kept < m->top_k)
        return error(STATUS_USAGE,
                     "--drop-experts: %lld experts would be left, fewer than the %lld that a token goes to",
                     (long long)d->kept, (long long)m->top_k);
    return even_out(d, m, most, loads);
}

static bool same_row(const struct drops *d, int a, int b)
{
    return memcmp(d->gone + a * d->experts, d->gone + b * d->experts, (size_t)d->experts * sizeof *d->gone) ==
           0;
}

/* Appends the runs of one row, each behind `layers` ("0-7:", or nothing). */
static char *append_runs(char *text, const struct drops *d, int row, const char *layers)
{
    for (int64_t e = 0, end; e < d->experts; e = end + 1) {
        for (end = e; end < d->experts && drops_has(d, row, end);)
            end++;
        if (end == e)
            continue;
        char last[24] = "";
        if (end > e + 1)
            snprintf(last, sizeof last, "-%lld", (long long)end - 1);
        char *longer = xasprintf("%s%s%s%lld%s", text, *text ? "," : "", layers, (long long)e, last);
        free(text);
        text = longer;
    }
    return text;
}

char *drops_text(const struct drops *d, const struct model *m)
{
    char *text = xstrdup(""), layers[48];
    int first = 0, end;
    bool alike = true;
    while (!m->moe[first])
        first++;
    for (int l = first; l < m->layers; l++)
        alike = alike && (!m->moe[l] || same_row(d, first, l));
    if (alike)
        return append_runs(text, d, first, "");
    for (int l = first; l < m->layers; l = end) {
        for (end = l + 1; end < m->layers && m->moe[l] && m->moe[end] && same_row(d, l, end);)
            end++;
        snprintf(layers, sizeof layers, end > l + 1 ? "%d-%d:" : "%d:", l, end - 1);
        if (m->moe[l])
            text = append_runs(text, d, l, layers);
    }
    return text;
}

void drops_release(struct drops *d)
{
    free(d->gone);
    *d = (struct drops){0};
}
