/* SPDX-License-Identifier: MIT */
#include "train/truth.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "comm/host.h"

int truth_send(struct run *run, int r, char **text, size_t *bytes)
{
    return comm_share_text(run->comm, r, text, bytes, &run->agreed);
}

/* ---- comparing ---- */

/* The line of `text` that begins with these n bytes, up to its end: its length, or -1. */
static int find_line(const char *text, const char *begin, size_t n, const char **line)
{
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        if (strncmp(p, begin, n) != 0)
            continue;
        *line = p;
        return (int)strcspn(p, "\n");
    }
    return -1;
}

/* The key's length, with its colon. */
static size_t key_length(const char *line, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (line[i] == ':' && line[i + 1] == ' ')
            return i + 1;
    return n;
}

/* Whether `text` has this line; else its line with the same key, "" when there is none. */
static bool has_line(const char *text, const char *line, size_t n, char other[static 300])
{
    const char *found;
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
        if (strcspn(p, "\n") == n && memcmp(p, line, n) == 0)
            return true;
    size_t key = key_length(line, n);
    int length = find_line(text, line, key, &found);
    snprintf(other, 300, "%.*s", length < 0 ? 0 : length - (int)key, length < 0 ? "" : found + key);
    return false;
}

int truth_within(struct run *run, const char *what, const char *mine, const char *rank0)
{
    char other[300];
    for (const char *p = mine; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        size_t n = strcspn(p, "\n"), key = key_length(p, n);
        if (has_line(rank0, p, n, other))
            continue;
        return error(STATUS_USAGE,
                     "%s: '%.*s' is%.*s on host '%s', and%s%s on rank 0's, '%s': all ranks must see the same",
                     what, (int)(key < n ? key - 1 : n), p, (int)(n - key), p + key, run->host,
                     *other ? "" : " not there", other, run->first_host);
    }
    return 0;
}

int truth_compare(struct run *run, int r, const char *what, const char *mine, bool both)
{
    char *rank0 = run_is_first(run) && mine ? xstrdup(mine) : NULL, other[300];
    int sent = truth_send(run, r, &rank0, NULL);
    if (sent == 0 && r == 0)
        r = truth_within(run, what, mine, rank0);
    for (const char *p = rank0; both && sent == 0 && r == 0 && *p; p += strcspn(p, "\n"), p += *p == '\n') {
        size_t n = strcspn(p, "\n"), key = key_length(p, n);
        if (!has_line(mine, p, n, other))
            r = error(
                STATUS_USAGE,
                "%s: '%.*s' is not there on host '%s', and%.*s on rank 0's, '%s': all ranks must see the same",
                what, (int)(key < n ? key - 1 : n), p, run->host, (int)(n - key), p + key, run->first_host);
    }
    free(rank0);
    return sent < 0 ? -1 : run_agree(run, r);
}

/* ---- options and paths ---- */

/* The options that name files: where they stand in struct train_options. */
static const struct {
    const char *key;
    size_t at;
    bool data; /* a blend of paths */
} paths[] = {
#define PATH(member, data)                                                                                     \
    {                                                                                                          \
#member, offsetof(struct train_options, member), data                                                  \
    }
    /* clang-format off */
    PATH(plan, false), PATH(data, true), PATH(init, false), PATH(save, false), PATH(resume, false),
    PATH(log, false), PATH(eval, true),
    /* clang-format on */
};
enum { PATHS = sizeof paths / sizeof *paths };

static const char **path_of(struct train_options *o, int i)
{
    return (const char **)((char *)o + paths[i].at);
}

/* Rank 0's: a line KEY=PATH each. */
static char *paths_text(struct train_options *o)
{
    char *text = xstrdup("");
    for (int i = 0; i < PATHS; i++) {
        const char *path = *path_of(o, i);
        if (!path || strcmp(path, "-") == 0)
            continue;
        if (strchr(path, '\n')) {
            error(STATUS_USAGE, "--%s: a path with a newline cannot be sent to the other ranks", paths[i].key);
            free(text);
            return NULL;
        }
        char *whole = paths[i].data ? data_absolute(path) : path_absolute(path);
        char *longer = xasprintf("%s%s=%s\n", text, paths[i].key, whole);
        free(text);
        free(whole);
        text = longer;
    }
    return text;
}

static void take_paths(struct run *run, char *text)
{
    for (char *p = text, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        size_t key = strcspn(p, "=");
        *end = '\0';
        for (int i = 0; i < PATHS; i++)
            if (strlen(paths[i].key) == key && strncmp(paths[i].key, p, key) == 0)
                *path_of(&run->options, i) = p + key + 1;
    }
}

int truth_options(struct run *run)
{
    snprintf(run->first_host, sizeof run->first_host, "%s", run->host);
    TRY(host_broadcast(comm_world(run->comm), 0, run->first_host, sizeof run->first_host));
    TRY(truth_compare(run, 0, "options", run->o->given, true));
    char *text = run_is_first(run) ? paths_text(&run->options) : NULL;
    TRY(truth_send(run, run_is_first(run) && !text ? -1 : 0, &text, NULL));
    run->paths = text;
    if (!run_is_first(run)) /* rank 0 says them as they were given */
        take_paths(run, text);
    return 0;
}
