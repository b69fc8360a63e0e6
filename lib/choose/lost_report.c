/* SPDX-License-Identifier: MIT */
#include "choose/lost_report.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"

typedef long long ll;

struct sick_report {
    struct lost *l;
    const struct plan *p;
    struct rank_places *places;
    const struct json_doc *d;
    json_t *hosts; /* those that it tells of, in its order; NULL: it does not say */
};

static bool is_at(const struct sick_report *x, int rank, const char *host)
{
    return strcmp(x->places->of[rank].host, host) == 0;
}

/* One that is sick, by its place: the plan's rank there, if any; all on its host where only that is known. */
static int lose_at(const struct sick_report *x, const json_t *one)
{
    int64_t local = -1;
    const char *host = NULL;
    TRY(json_int(x->d, one, "local", 0, INT32_MAX, &local));
    TRY(json_text(x->d, one, "host", &host));
    if (!host)
        return json_bad(x->d, "sick", "has a rank of no host: health must be asked again without it");
    for (int r = 0; r < x->p->world; r++)
        if (is_at(x, r, host) && (local < 0 || x->places->of[r].local == local))
            lost_mark(x->l, r);
    return 0;
}

static int lose_rank(const struct sick_report *x, const json_t *one)
{
    int64_t rank = -1;
    TRY(json_need_int(x->d, one, "rank", 0, x->p->world - 1, &rank));
    lost_mark(x->l, (int)rank);
    return 0;
}

static bool tells_of(const struct sick_report *x, const char *host)
{
    size_t i;
    json_t *one;
    json_array_foreach(x->hosts, i, one)
    {
        if (strcmp(json_string_value(one), host) == 0)
            return true;
    }
    return false;
}

static bool is_sick(const struct sick_report *x, const char *host)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(x->d->root, "sick"), i, one)
    {
        const char *at = json_string_value(json_object_get(one, "host"));
        if (at && strcmp(at, host) == 0)
            return true;
    }
    return false;
}

static bool in_plan(const struct sick_report *x, const char *host)
{
    for (int r = 0; r < x->p->world; r++)
        if (is_at(x, r, host))
            return true;
    return false;
}

/* The next host that is well and that the plan does not use; NULL: there is none. */
static const char *spare_host(const struct sick_report *x)
{
    size_t i;
    json_t *one;
    json_array_foreach(x->hosts, i, one)
    {
        const char *host = json_string_value(one);
        if (!is_sick(x, host) && !in_plan(x, host))
            return host;
    }
    return NULL;
}

/* Spare hosts take the places of those with ranks that are lost. */
static void use_spares(const struct sick_report *x)
{
    const char *spare;
    for (int first = 0; first < x->p->world; first++) {
        if (!x->l->rank[first] || !(spare = spare_host(x)))
            continue;
        char gone[HOST_NAME];
        memcpy(gone, x->places->of[first].host, sizeof gone);
        notice("host '%s' takes the place of '%s'", spare, gone);
        for (int r = 0; r < x->p->world; r++)
            if (is_at(x, r, gone)) {
                snprintf(x->places->of[r].host, HOST_NAME, "%s", spare);
                x->l->count -= x->l->rank[r];
                x->l->rank[r] = false;
            }
    }
}

static int read_hosts(struct sick_report *x)
{
    size_t i;
    json_t *one;
    x->hosts = json_object_get(x->d->root, "hosts");
    if (x->hosts && !json_is_array(x->hosts))
        return json_bad(x->d, "hosts", "is no array");
    json_array_foreach(x->hosts, i, one)
    {
        if (!json_is_string(one) || strlen(json_string_value(one)) >= HOST_NAME)
            return json_bad(x->d, "hosts", "has what is no name of a host");
    }
    if (x->places && !x->places->of && !x->hosts)
        return error(STATUS_USAGE, "the report names no hosts to place the plan's ranks on");
    return 0;
}

/* Without places node N of the plan is on the N-th host. */
static int place_ranks(const struct sick_report *x)
{
    int hosts = (int)json_array_size(x->hosts);
    const char **name = xcalloc((size_t)hosts + 1, sizeof *name);
    for (int i = 0; i < hosts; i++)
        name[i] = json_string_value(json_array_get(x->hosts, (size_t)i));
    int rc = places_on(x->places, x->p, name, hosts);
    free(name);
    return rc;
}

int lost_by_report(struct lost *l, const struct plan *p, struct rank_places *s, const struct json_doc *report)
{
    struct sick_report x = {l, p, s, report, NULL};
    size_t i;
    json_t *one, *list = json_object_get(report->root, "sick");
    int64_t ranks = 0;
    if (!json_is_array(list))
        return json_bad(report, "sick", "is no array");
    TRY(json_need_int(report, report->root, "ranks", 1, INT32_MAX, &ranks));
    TRY(read_hosts(&x));
    if (!s && ranks != p->world)
        return error(STATUS_USAGE,
                     "the report is of %lld ranks, the plan has %d: give --places FILE, where these are",
                     (ll)ranks, p->world);
    if (s && !s->of)
        TRY(place_ranks(&x));
    json_array_foreach(list, i, one)
    {
        if (!json_is_object(one))
            return json_bad(report, "sick", "has what is no object");
        TRY(s ? lose_at(&x, one) : lose_rank(&x, one));
    }
    if (!s || !x.hosts)
        return 0;
    for (int r = 0; r < p->world; r++)
        if (!tells_of(&x, s->of[r].host))
            lost_mark(l, r);
    use_spares(&x);
    return 0;
}
