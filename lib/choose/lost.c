/* SPDX-License-Identifier: MIT */
#include "choose/lost.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/ranges.h"
#include "choose/lost_report.h"

#define MAX_LOST_BYTES ((size_t)1 << 30)

typedef long long ll;

struct naming {
    struct lost *l;
    const struct plan *p;
    struct rank_places *places; /* or NULL */
    bool *report;               /* a report of health was among what was read */
};

static int lose_host(const struct naming *n, const char *host)
{
    int64_t node = -1;
    const struct place *of = n->places ? n->places->of : NULL;
    bool any = false;
    if (!of && !parse_int(host, 0, INT32_MAX, &node))
        return error(STATUS_USAGE,
                     "a plan does not name hosts: give the number of its node instead of '%s', or --hosts FILE "
                     "with the host of each node",
                     host);
    for (int r = 0; r < n->p->world; r++)
        if (of ? strcmp(of[r].host, host) == 0 : n->p->ranks[r].node == node) {
            lost_mark(n->l, r);
            any = true;
        }
    if (any)
        return 0;
    return of ? error(STATUS_USAGE, "no rank of the plan is on host '%s'", host)
              : error(STATUS_USAGE, "no rank of the plan is on node %lld", (ll)node);
}

static int lose_list(const struct naming *n, const char *list)
{
    int *ranks, count = ranges_parse(list, 0, n->p->world - 1, "rank", &ranks);
    for (int i = 0; i < count; i++)
        lost_mark(n->l, ranks[i]);
    if (count >= 0)
        free(ranks);
    return count < 0 ? -1 : 0;
}

/* A record that has a rank, or else a host; neither: nothing is known. */
static int lose_named(const struct naming *n, const struct json_doc *d, const json_t *record)
{
    int64_t rank = -1;
    const char *host = NULL;
    TRY(json_int(d, record, "rank", 0, n->p->world - 1, &rank));
    TRY(json_text(d, record, "host", &host));
    if (rank >= 0)
        lost_mark(n->l, (int)rank);
    else if (host)
        TRY(lose_host(n, host));
    return 0;
}

/* One JSON object: a report of health, a record of a log, or something else. */
static int lose_object(const struct naming *n, const struct json_doc *d)
{
    const char *kind = NULL;
    TRY(json_text(d, d->root, "kind", &kind));
    if (kind && strcmp(kind, "health") == 0) {
        *n->report = true;
        return lost_by_report(n->l, n->p, n->places, d);
    }
    if (kind &&
        strcmp(kind, "start") == 0) { /* what was before has been mended, or this start would have failed */
        memset(n->l->rank, 0, (size_t)n->p->world * sizeof *n->l->rank);
        n->l->count = 0;
    }
    return kind && strcmp(kind, "fault") == 0 ? lose_named(n, d, d->root) : 0;
}

/* JSON Lines: those that can matter. The last line may be half written. A crash of its host may have left zeros
 * in a log, behind which it goes on: they are blanks. */
static int lose_lines(const struct naming *n, char *text, size_t size, const char *where)
{
    int line = 1;
    for (char *zero = text; (zero = memchr(zero, '\0', (size_t)(text + size - zero)));)
        *zero = ' ';
    for (char *at = text, *end; *at; at = end, line++) {
        end = at + strcspn(at, "\n");
        bool whole = *end == '\n';
        size_t bytes = (size_t)(end - at);
        if (whole)
            *end++ = '\0';
        if (!strstr(at, "\"fault\"") && !strstr(at, "\"start\"") && !strstr(at, "\"health\""))
            continue;
        struct json_doc d;
        char *place = xasprintf("%s: line %d", where, line);
        int rc = json_open(&d, at, bytes, place);
        free(place);
        if (rc < 0 && !whole) {
            error_clear();
            return 0;
        }
        TRY(rc);
        rc = lose_object(n, &d);
        json_close(&d);
        TRY(rc);
    }
    return 0;
}

static int lose_by_file(const struct naming *n, const char *path)
{
    size_t bytes;
    struct json_doc d;
    char *text = file_read(path, MAX_LOST_BYTES, &bytes);
    if (!text)
        return -1;
    int rc = json_open(&d, text, bytes, path); /* one document, on however many lines */
    if (rc == 0) {
        rc = lose_object(n, &d);
        json_close(&d);
    } else {
        error_clear();
        rc = lose_lines(n, text, bytes, path);
    }
    free(text);
    if (rc == 0 && n->l->count == 0 && !*n->report)
        return error(STATUS_USAGE,
                     "%s: names no rank or host as lost: it has no fault record with one since the last "
                     "start, and is no report of health",
                     path);
    return rc;
}

int lost_parse(struct lost *l, const struct plan *p, const char *what, struct rank_places *places)
{
    *l = (struct lost){.rank = xcalloc((size_t)p->world, sizeof *l->rank)};
    bool report = false;
    struct naming n = {l, p, places, &report};
    int rc = strncmp(what, "host:", 5) == 0 ? lose_host(&n, what + 5)
             : *what == '@'                 ? lose_by_file(&n, what + 1)
                                            : lose_list(&n, what);
    if (rc == 0 && l->count == p->world)
        rc = error(STATUS_USAGE, "all %d ranks are lost: nothing is left to plan for", p->world);
    if (rc < 0)
        lost_release(l);
    return rc;
}

void lost_release(struct lost *l)
{
    free(l->rank);
    *l = (struct lost){0};
}
