/* SPDX-License-Identifier: MIT */
#include "model/load_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#define MAX_LOADS_BYTES ((size_t)256 << 20)
#define MAX_LOAD        1e30 /* sums of them are finite in f32 too */

typedef long long ll;

struct table_text {
    struct load_table *t;
    const char *where;
    int64_t line, count, room; /* numbers so far, and those there is room for */
};

static void add_load(struct table_text *x, double load)
{
    if (x->count == x->room) {
        x->room = x->room ? 2 * x->room : 64;
        x->t->load = xrealloc(x->t->load, (size_t)x->room, sizeof *x->t->load);
    }
    x->t->load[x->count++] = load;
}

/* One line's numbers; at the end of the line *at is behind it. */
static int read_row(struct table_text *x, const char **at)
{
    int64_t before = x->count, have;
    const char *p = *at;
    for (;;) {
        p += strspn(p, " \t\r");
        if (*p == '\n' || *p == '#' || !*p)
            break;
        char *end;
        double load = strtod(p, &end);
        if (end == p || !strchr(" \t\r\n#", *end) || !(load >= 0 && load <= MAX_LOAD))
            return error(STATUS_USAGE, "%s:%lld:%lld: not a load, a number from 0 to %g", x->where, (ll)x->line,
                         (ll)(p - *at) + 1, MAX_LOAD);
        add_load(x, load);
        p = end;
    }
    p += strcspn(p, "\n");
    *at = *p ? p + 1 : p;
    have = x->count - before;
    if (have == 0)
        return 0;
    if (x->t->layers++ == 0)
        x->t->experts = have;
    return have == x->t->experts ? 0
                                 : error(STATUS_USAGE, "%s:%lld: has %lld loads, and the lines before it %lld",
                                         x->where, (ll)x->line, (ll)have, (ll)x->t->experts);
}

int load_table_parse(struct load_table *t, const char *text, size_t bytes, const char *where)
{
    *t = (struct load_table){0};
    struct table_text x = {.t = t, .where = where, .line = 1};
    int rc = 0;
    for (const char *at = text; rc == 0 && at < text + bytes && *at; x.line++)
        rc = read_row(&x, &at);
    if (rc == 0 && strlen(text) != bytes)
        rc = error(STATUS_USAGE, "%s:%lld: holds a NUL byte", where, (ll)x.line);
    if (rc == 0 && t->layers == 0)
        rc = error(STATUS_USAGE, "%s: holds no loads", where);
    if (rc < 0)
        load_table_release(t);
    return rc;
}

int load_table_read(struct load_table *t, const char *path)
{
    size_t bytes;
    *t = (struct load_table){0};
    char *text = file_read(path, MAX_LOADS_BYTES, &bytes);
    int rc = text ? load_table_parse(t, text, bytes, strcmp(path, "-") == 0 ? "stdin" : path) : -1;
    free(text);
    return rc;
}

void load_table_release(struct load_table *t)
{
    free(t->load);
    *t = (struct load_table){0};
}

int load_table_fits(const struct load_table *t, const struct model *m, const char *where)
{
    if (t->layers == m->moe_layers && t->experts == m->experts)
        return 0;
    return error(STATUS_USAGE, "%s: has loads of %lld layers with %lld experts, and the model %lld with %lld",
                 where, (ll)t->layers, (ll)t->experts, (ll)m->moe_layers, (ll)m->experts);
}

int load_table_routed(const struct load_table *t, const char *where)
{
    for (int64_t l = 0; l < t->layers; l++) {
        double sum = 0;
        for (int64_t e = 0; e < t->experts; e++)
            sum += t->load[l * t->experts + e];
        if (!(sum > 0))
            return error(STATUS_USAGE, "%s: the loads of MoE layer %lld are all 0: there is nothing to go by",
                         where, (ll)l);
    }
    return 0;
}
