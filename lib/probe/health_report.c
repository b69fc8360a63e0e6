/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "probe/health.h"
#include "probe/nvml.h"

/* Of one check over all ranks. */
struct extremes {
    int measured, worst; /* ranks that have a figure; the one with the least, or most where less is better */
    double least, most;
};

static struct extremes extremes_of(const struct health *h, enum health_check check)
{
    struct extremes s = {.worst = -1, .least = NAN, .most = NAN};
    for (int r = 0; r < h->ranks; r++) {
        double x = h->rank[r].value[check];
        if (isnan(x))
            continue;
        if (s.measured++ == 0 || (health_row[check].less ? x > s.most : x < s.least))
            s.worst = r;
        s.least = fmin(s.least, x); /* of NaN and a number the number */
        s.most = fmax(s.most, x);
    }
    return s;
}

/* Whether a link is told of by itself: it is slow, and neither of its ranks is to blame. Of its two ends the
 * lower rank tells. */
static bool told(const struct health *h, int rank, const struct link *l)
{
    return rank < l->peer && !health_sick(h, rank) && !health_sick(h, l->peer);
}

static int kept(const struct health_rank *r)
{
    return r->slow < HEALTH_WORST ? r->slow : HEALTH_WORST;
}

/* ---- for people ---- */

/* "; should be 8.4 (by the cluster)", "; should be at most …" */
static const char *should_be(const struct expectation *e, const struct health_row *row, char text[static 80])
{
    if (isnan(e->value))
        snprintf(text, 80, "; nothing to compare it with");
    else
        snprintf(text, 80, "; should be %s%.4g (by %s)", row->less ? "at most " : "", e->value / row->scale,
                 e->from);
    return text;
}

/* Whether any of the links that this check is of is slow, whoever is to blame. */
static bool slow_links(const struct health *h, enum health_check check)
{
    for (int r = 0; r < h->ranks && check >= HEALTH_INSIDE; r++)
        for (int i = 0; i < kept(&h->rank[r]); i++)
            if (h->rank[r].worst[i].across == (check == HEALTH_ACROSS))
                return true;
    return false;
}

static void print_slow(FILE *f, const struct health *h, int rank, enum health_check check)
{
    const struct health_row *row = &health_row[check];
    const struct expectation *e = &h->expect[check];
    const struct health_rank *r = &h->rank[rank];
    double x = r->value[check];
    char text[80];
    fprintf(f, "FAIL %s: rank %d on '%s': %.4g%s%s", row->name, rank, r->host, x / row->scale,
            *row->unit ? " " : "", row->unit);
    for (int i = 0; check == HEALTH_THROTTLE && nvml_reason(i); i++)
        if (r->reason >> i & 1)
            fprintf(f, " %s", nvml_reason(i));
    if (!row->less)
        fprintf(f, ", %.0f %% of what it%s\n", 100 * x / e->value, should_be(e, row, text) + 1);
    else
        fprintf(f, "%s\n", should_be(e, row, text));
}

static void print_check(FILE *f, const struct health *h, enum health_check check)
{
    const struct health_row *row = &health_row[check];
    const struct expectation *e = &h->expect[check];
    struct extremes s = extremes_of(h, check);
    const char *space = *row->unit ? " " : "";
    char text[80];
    bool fails = false;
    for (int r = 0; r < h->ranks; r++) {
        if (!health_slow(h, r, check))
            continue;
        fails = true;
        print_slow(f, h, r, check);
    }
    if (s.measured && !fails)
        fprintf(f, "%s %s: %.4g to %.4g%s%s a rank%s\n", slow_links(h, check) ? "FAIL" : "ok  ", row->name,
                s.least / row->scale, s.most / row->scale, space, row->unit, should_be(e, row, text));
}

static void print_link(FILE *f, const struct health *h, int rank, const struct link *l)
{
    enum health_check check = l->across ? HEALTH_ACROSS : HEALTH_INSIDE;
    const struct health_row *row = &health_row[check];
    const struct expectation *e = &h->expect[check];
    char group[32] = "", text[80];
    if (l->kind < GROUP_KINDS)
        snprintf(group, sizeof group, " of group %s %d", group_name[l->kind], l->index);
    fprintf(f, "FAIL %s: ranks %d on '%s' and %d on '%s'%s: %.4g %s, %.0f %% of what it%s\n", row->name, rank,
            h->rank[rank].host, l->peer, l->host, group, l->Bps / row->scale, row->unit,
            100 * l->Bps / e->value, should_be(e, row, text) + 1);
}

/* Links of ranks whose links are slow in the most, and then single ones. Returns how many of these. */
static int print_links(FILE *f, const struct health *h)
{
    int links = 0;
    for (int r = 0; r < h->ranks; r++)
        if (health_links_slow(h, r))
            fprintf(f, "FAIL links: rank %d on '%s': %d of its %d links are slow\n", r, h->rank[r].host,
                    h->rank[r].slow, h->rank[r].links);
    for (int r = 0; r < h->ranks; r++)
        for (int i = 0; i < kept(&h->rank[r]); i++)
            if (told(h, r, &h->rank[r].worst[i])) {
                print_link(f, h, r, &h->rank[r].worst[i]);
                links++;
            }
    return links;
}

/* All of them, in the order of ranks; for the caller. */
static json_t *host_list(const struct health *h)
{
    json_t *seen = json_object(), *list = json_array();
    for (int r = 0; r < h->ranks; r++) {
        json_t *host = json_bytes(h->rank[r].host);
        if (!json_object_get(seen, json_string_value(host)))
            json_array_append(list, host);
        json_object_set_new(seen, json_string_value(host), json_true());
        json_decref(host);
    }
    json_decref(seen);
    return list;
}

static void print_verdict(FILE *f, const struct health *h, int links)
{
    int sick = 0;
    if (health_healthy(h)) {
        json_t *hosts = host_list(h);
        size_t n = json_array_size(hosts);
        fprintf(f, "healthy: %d rank%s on %zu host%s\n", h->ranks, plural(h->ranks), n, plural(n));
        json_decref(hosts);
        return;
    }
    fprintf(f, "not healthy:");
    for (int r = 0; r < h->ranks; r++)
        if (health_sick(h, r))
            fprintf(f, "%s rank %d on '%s'", sick++ ? "," : "", r, h->rank[r].host);
    if (links)
        fprintf(f, "%s %d slow link%s", sick ? "," : "", links, plural(links));
    if (!sick && !links) /* nor anything else */
        fprintf(f, " busy with other programs");
    fprintf(f, "\n");
}

void health_print(FILE *f, const struct health *h)
{
    if (h->lost) {
        fprintf(f, "FAIL alive: rank %d%s%s%s gives no sign of life\n", h->lost->rank,
                *h->lost->host ? " on '" : "", h->lost->host, *h->lost->host ? "'" : "");
        fprintf(f, "not healthy: rank %d\n", h->lost->rank);
        return;
    }
    for (int i = 0; i < HEALTH_CHECKS; i++)
        print_check(f, h, i);
    int links = print_links(f, h);
    print_verdict(f, h, links);
}

/* ---- for programs ---- */

static json_t *number(double x)
{
    return isnan(x) ? json_null() : json_real(x);
}

static json_t *reason_list(const struct health_rank *r)
{
    json_t *list = json_array();
    for (int i = 0; nvml_reason(i); i++)
        if (r->reason >> i & 1)
            json_array_append_new(list, json_string(nvml_reason(i)));
    return list;
}

/* Which of the ranks of its host it is. */
static int local_number(const struct health *h, int rank)
{
    int n = 0;
    for (int r = 0; r < rank; r++)
        n += strncmp(h->rank[r].host, h->rank[rank].host, HOST_NAME) == 0;
    return n;
}

static json_t *sick_list(const struct health *h)
{
    json_t *list = json_array();
    if (h->lost)
        json_array_append_new(list, json_pack("{s:i,s:o,s:[s]}", "rank", h->lost->rank, "host",
                                              *h->lost->host ? json_bytes(h->lost->host) : json_null(), "why",
                                              "lost"));
    for (int r = 0; !h->lost && r < h->ranks; r++) {
        if (!health_sick(h, r))
            continue;
        json_t *why = json_array();
        for (int i = 0; i < HEALTH_CHECKS; i++)
            if (i != HEALTH_BUSY && health_slow(h, r, i))
                json_array_append_new(why, json_string(health_row[i].name));
        if (health_links_slow(h, r))
            json_array_append_new(why, json_string("links"));
        json_t *one = json_pack("{s:i,s:o,s:i,s:o}", "rank", r, "host", json_bytes(h->rank[r].host), "local",
                                local_number(h, r), "why", why);
        if (health_slow(h, r, HEALTH_THROTTLE))
            json_object_set_new(one, "throttle", reason_list(&h->rank[r]));
        json_array_append_new(list, one);
    }
    return list;
}

/* Ranks from whose processors other programs keep them. */
static json_t *busy_list(const struct health *h)
{
    json_t *list = json_array();
    for (int r = 0; !h->lost && r < h->ranks; r++)
        if (health_slow(h, r, HEALTH_BUSY))
            json_array_append_new(list, json_integer(r));
    return list;
}

static json_t *link_list(const struct health *h)
{
    json_t *list = json_array();
    for (int r = 0; !h->lost && r < h->ranks; r++)
        for (int i = 0; i < kept(&h->rank[r]); i++) {
            const struct link *l = &h->rank[r].worst[i];
            if (!told(h, r, l))
                continue;
            json_t *one = json_pack("{s:[i,i],s:[o,o],s:f,s:f}", "ranks", r, l->peer, "hosts",
                                    json_bytes(h->rank[r].host), json_bytes(l->host), "Bps", l->Bps,
                                    "expected_Bps", h->expect[l->across ? HEALTH_ACROSS : HEALTH_INSIDE].value);
            if (l->kind < GROUP_KINDS) {
                json_object_set_new(one, "group", json_string(group_name[l->kind]));
                json_object_set_new(one, "index", json_integer(l->index));
            }
            json_array_append_new(list, one);
        }
    return list;
}

static json_t *check_list(const struct health *h)
{
    json_t *all = json_object();
    for (int i = 0; !h->lost && i < HEALTH_CHECKS; i++) {
        struct extremes s = extremes_of(h, i);
        const struct expectation *e = &h->expect[i];
        if (s.measured == 0)
            continue;
        json_object_set_new(all, health_row[i].name,
                            json_pack("{s:f,s:i,s:f,s:o,s:o}", "least", s.least, "rank", s.worst, "most",
                                      s.most, "expected", number(e->value), "by",
                                      isnan(e->value) ? json_null() : json_string(e->from)));
    }
    return all;
}

void health_json(FILE *f, const struct health *h)
{
    json_t *root = json_pack("{s:s,s:b,s:i,s:o,s:f,s:o,s:o,s:o,s:o}", "kind", "health", "healthy",
                             !h->lost && health_healthy(h), "ranks", h->ranks, "cluster",
                             json_bytes(h->cluster), "tolerance", h->o->tolerance, "sick", sick_list(h), "busy",
                             busy_list(h), "links", link_list(h), "checks", check_list(h));
    if (!h->lost)
        json_object_set_new(root, "hosts", host_list(h));
    json_dumpf(root, f, JSON_COMPACT);
    fputc('\n', f);
    json_decref(root);
}
