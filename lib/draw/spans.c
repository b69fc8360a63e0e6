/* SPDX-License-Identifier: MIT */
#include "draw/spans.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"

enum { MAX_RANKS = 1 << 20 };
static const double MOST_S = 1e9, SPREAD_S = 1e7; /* between the clocks of one run's files */

/* ---- lines ---- */

/* Text for names: what would steer a terminal becomes '?'. False when it is not there. */
static bool text(const json_t *o, const char *key, char *to, size_t size)
{
    const char *s = json_string_value(json_object_get(o, key));
    size_t n = 0;
    for (; s && s[n] && n + 1 < size; n++)
        to[n] = (unsigned char)s[n] < ' ' || s[n] == 0x7f ? '?' : s[n];
    while (s && n > 0 && s[n] && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--; /* not in the middle of a character */
    if (s && s[n] && n > 0 && ((unsigned char)s[n - 1] & 0xc0) == 0xc0)
        n--;
    to[n] = '\0';
    return n > 0;
}

/* NULL at the end; a line that is no object counts as skipped, and the next one is tried. */
static json_t *next_object(struct span_file *f)
{
    ssize_t n;
    while ((n = getline(&f->line, &f->room, f->f)) > 0) {
        if (strspn(f->line, " \t\r\n") == (size_t)n)
            continue;
        json_t *o = json_loadb(f->line, (size_t)n, 0, NULL);
        if (json_is_object(o))
            return o;
        json_decref(o);
        f->skipped++;
    }
    return NULL;
}

static bool is_kind(const json_t *o, const char *kind)
{
    const char *s = json_string_value(json_object_get(o, "kind"));
    return s && strcmp(s, kind) == 0;
}

/* ---- what a file says of itself ---- */

static int read_head(struct span_file *f, const json_t *o)
{
    const char *key;
    char why[FORMAT_WHY];
    const json_t *rank = json_object_get(o, "rank"), *ranks = json_object_get(o, "ranks");
    if (!is_kind(o, "timeline"))
        return error(STATUS_USAGE, "%s:1:1: is not a timeline (moe-train --timeline writes one)", f->path);
    if (format_refuses(&timeline_format, o, &key, why))
        return error(STATUS_USAGE, "%s:1:1: key '%s' %s", f->path, key, why);
    int64_t r = json_integer_value(rank), n = json_integer_value(ranks);
    f->unix_s = json_number_value(json_object_get(o, "unix_s"));
    if (!json_is_integer(rank) || !json_is_integer(ranks) || n < 1 || n > MAX_RANKS || r < 0 || r >= n)
        return error(STATUS_USAGE, "%s:1:1: does not say which of how many ranks it is of", f->path);
    if (!(f->unix_s >= 0 && f->unix_s < 1e11))
        return error(STATUS_USAGE, "%s:1:1: key 'unix_s' is no time", f->path);
    f->rank = (int)r;
    f->ranks = (int)n;
    text(o, "host", f->host, sizeof f->host);
    return 0;
}

static bool add_group(struct span_file *f, const json_t *o, const char *key, char *members)
{
    struct span_group *g = &f->group[f->group_count];
    if (f->group_count == SPAN_GROUPS || !text(o, key, g->name, sizeof g->name)) {
        free(members);
        return false;
    }
    g->members = members;
    f->group_count++;
    return true;
}

static bool read_group(struct span_file *f, const json_t *o)
{
    const json_t *list = json_object_get(o, "ranks"), *v;
    size_t i, n = 0, room = json_array_size(list) * 9 + 1;
    if (json_array_size(list) > (size_t)f->ranks)
        return false;
    char *members = xmalloc(room);
    members[0] = '\0';
    json_array_foreach(list, i, v)
    {
        int64_t rank = json_is_integer(v) ? json_integer_value(v) : -1;
        if (rank < 0 || rank >= f->ranks) {
            free(members);
            return false;
        }
        n += (size_t)snprintf(members + n, room - n, "%s%d", i ? " " : "", (int)rank);
    }
    return add_group(f, o, "group", members);
}

static bool read_peer(struct span_file *f, const json_t *o)
{
    const json_t *v = json_object_get(o, "rank");
    char stream[SPAN_NAME];
    int64_t peer = json_is_integer(v) ? json_integer_value(v) : -1;
    if (peer < 0 || peer >= f->ranks || !text(o, "stream", stream, sizeof stream))
        return false;
    bool out = strncmp(stream, "out", 3) == 0;
    return add_group(f, o, "stream", xasprintf("%d>%d", out ? f->rank : (int)peer, out ? (int)peer : f->rank));
}

static const char *members_of(const struct span_file *f, const char *name)
{
    for (int i = 0; i < f->group_count; i++)
        if (strcmp(f->group[i].name, name) == 0)
            return f->group[i].members;
    return strcmp(name, "world") == 0 ? "world" : NULL;
}

/* ---- operations ---- */

static int stream_of(struct span_file *f, const char *name)
{
    int i = 0;
    while (i < f->stream_count && strcmp(f->stream[i], name) != 0)
        i++;
    if (i == SPAN_STREAMS)
        return i - 1;
    if (i == f->stream_count)
        strcpy(f->stream[f->stream_count++], name);
    return i;
}

static bool read_op(struct span_file *f, const json_t *o, struct rank_span *s)
{
    const json_t *step = json_object_get(o, "step"), *from = json_object_get(o, "start_s"),
                 *to = json_object_get(o, "end_s"), *bytes = json_object_get(o, "bytes");
    char stream[SPAN_NAME];
    if (!json_is_integer(step) || !json_is_number(from) || !json_is_number(to) ||
        !text(o, "stream", stream, sizeof stream) || !text(o, "op", s->op, sizeof s->op))
        return false;
    s->step = json_integer_value(step);
    s->start_s = json_number_value(from);
    s->end_s = json_number_value(to);
    if (s->step < 0 || !(s->start_s >= 0 && s->start_s <= s->end_s && s->end_s < MOST_S))
        return false;
    s->stream = stream_of(f, stream);
    s->members = NULL;
    s->bytes = -1;
    if (text(o, "group", s->group, sizeof s->group)) {
        s->bytes = json_is_integer(bytes) ? json_integer_value(bytes) : 0;
        s->members = members_of(f, stream); /* messages have the stream's two ends, */
        if (!s->members)
            s->members = members_of(f, s->group); /* collectives the members of their group */
    }
    return true;
}

int spans_next(struct span_file *f, struct rank_span *s)
{
    json_t *o;
    while ((o = next_object(f))) {
        bool known = true, op = false;
        if (is_kind(o, "op"))
            known = op = read_op(f, o, s);
        else if (is_kind(o, "group"))
            known = read_group(f, o);
        else if (is_kind(o, "peer"))
            known = read_peer(f, o);
        json_decref(o);
        f->skipped += !known;
        if (op)
            return 1;
    }
    return ferror(f->f) ? error_errno("cannot read '%s'", f->path) : 0;
}

/* ---- files ---- */

int spans_open(struct span_file *f, const char *path)
{
    *f = (struct span_file){.path = path, .f = fopen(path, "rb")};
    if (!f->f)
        return error_errno("cannot open '%s'", path);
    json_t *o = next_object(f);
    int r = read_head(f, o);
    json_decref(o);
    if (r < 0)
        spans_close(f);
    return r;
}

void spans_close(struct span_file *f)
{
    if (f->f)
        fclose(f->f);
    for (int i = 0; i < f->group_count; i++)
        free(f->group[i].members);
    free(f->line);
    *f = (struct span_file){0};
}

bool spans_here(const char *path)
{
    char begin[4096];
    struct stat status;
    if (stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return false; /* a pipe gives what it has once: to who reads it */
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    size_t n = fread(begin, 1, sizeof begin, f);
    fclose(f);
    json_t *o = json_loadb(begin, n, JSON_DISABLE_EOF_CHECK, NULL);
    bool here = is_kind(o, "timeline");
    json_decref(o);
    return here;
}

int spans_heads(char *const *paths, int count, double *earliest_s, int *ranks)
{
    struct span_file f;
    double latest = -INFINITY;
    bool *seen = NULL;
    int r = 0;
    *earliest_s = INFINITY;
    *ranks = 0;
    for (int i = 0; i < count && r == 0; i++) {
        if ((r = spans_open(&f, paths[i])) < 0)
            break;
        if (!seen) {
            *ranks = f.ranks;
            seen = xcalloc((size_t)f.ranks, sizeof *seen);
        }
        *earliest_s = fmin(*earliest_s, f.unix_s);
        latest = fmax(latest, f.unix_s);
        if (f.ranks != *ranks || latest - *earliest_s > SPREAD_S)
            r = error(STATUS_USAGE, "'%s' and '%s' are not of one run", paths[0], paths[i]);
        else if (seen[f.rank])
            r = error(STATUS_USAGE, "'%s' is of rank %d, as one before it is", paths[i], f.rank);
        else
            seen[f.rank] = true;
        spans_close(&f);
    }
    free(seen);
    return r;
}
