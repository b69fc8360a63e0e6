/* SPDX-License-Identifier: MIT */
#include "recast/drops.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/ranges.h"
#include "model/load_table.h"
#include "pack/experts.h"

/* ---- the choice ---- */

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
               n > 1 ? "s" : "", text, n > 1 ? "go" : "goes", (long long)d->kept);
    free(text);
    free(list);
}

/* What the list names, and the most of a group. */
static int64_t mark(struct drops *d, const struct model *m, const struct expert_choice *c)
{
    int64_t each = m->experts / m->groups, most = 0;
    for (int l = 0; l < m->layers; l++)
        for (int64_t e = 0; m->moe[l] && e < m->experts; e++)
            d->gone[l * m->experts + e] = experts_has(c, l, e);
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

int drops_choose(struct drops *d, const struct model *m, const char *list, const char *loads)
{
    *d = (struct drops){0};
    if (!m->moe_layers)
        return error(STATUS_USAGE, "the model is dense: it has no experts");
    struct expert_choice *c = experts_parse("--drop-experts", list);
    if (!c)
        return -1;
    int rc = 0;
    if (!experts_within(c, m->layers, m->experts))
        rc = error(STATUS_USAGE,
                   "--drop-experts: '%s' names what is not there: the model has experts 0-%lld in %lld layers",
                   list, (long long)m->experts - 1, (long long)m->layers);
    *d = (struct drops){xcalloc((size_t)(m->layers * m->experts), sizeof(bool)), m->experts, 0};
    int64_t most = rc == 0 ? mark(d, m, c) : 0;
    d->kept = m->experts - most * m->groups;
    if (rc == 0 && most == 0)
        rc = error(STATUS_USAGE, "--drop-experts: '%s' names no layer that has experts", list);
    if (rc == 0 && d->kept < m->top_k)
        rc = error(STATUS_USAGE,
                   "--drop-experts: %lld experts would be left, fewer than the %lld that a token goes to",
                   (long long)d->kept, (long long)m->top_k);
    if (rc == 0)
        rc = even_out(d, m, most, loads);
    experts_free(c);
    if (rc < 0)
        drops_release(d);
    return rc;
}

void drops_release(struct drops *d)
{
    free(d->gone);
    *d = (struct drops){0};
}
