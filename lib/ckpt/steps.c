/* SPDX-License-Identifier: MIT */
#include "ckpt/steps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/words.h"
#include "ckpt/names.h"
#include "model/model.h"

static const char prefix[] = "step-";

char *step_name(int64_t step, char buf[static STEP_NAME])
{
    snprintf(buf, STEP_NAME, "%s%08" PRId64, prefix, step);
    return buf;
}

int64_t step_of(const char *name)
{
    char again[STEP_NAME];
    int64_t step;
    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return -1;
    const char *digits = name + strlen(prefix), *from = digits + strspn(digits, "0");
    if (!*digits || !(*from ? parse_int(from, 1, INT64_MAX, &step) : (step = 0, true)))
        return -1;
    return strcmp(step_name(step, again), name) == 0 ? step : -1;
}

/* Whether the last part of path begins like a step's name: it is, or was meant to be, one. */
static bool step_meant(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, prefix, strlen(prefix)) == 0;
}

char *step_path(const char *root, int64_t step)
{
    char name[STEP_NAME];
    return path_join(root, step_name(step, name));
}

char *step_hidden_path(const char *root, int64_t step, const char *run, const char *suffix)
{
    char name[STEP_NAME];
    return xasprintf("%s/.%s%s%s.%s", root, step_name(step, name), *run ? "." : "", run, suffix);
}

/* ---- what there is ---- */

static bool is_complete(const char *root, const char *name)
{
    char *manifest = xasprintf("%s/%s/" MANIFEST_FILE, root, name),
         *state = xasprintf("%s/%s/" STATE_FILE, root, name);
    bool complete = file_exists(manifest) && file_exists(state);
    free(manifest);
    free(state);
    return complete;
}

static bool is_set_aside(const char *name)
{
    return step_meant(name) && (ends_in(name, ".abandoned") || ends_in(name, ".broken"));
}

static int newest_first(const void *a, const void *b)
{
    const struct step_dir *x = a, *y = b;
    return x->step > y->step ? -1 : x->step < y->step;
}

/* 1; 0: there is no such directory, and so nothing in it; -1. */
static int open_root(struct folder *f, const char *root)
{
    if (folder_open(f, root) == 0)
        return 1;
    if (errno != ENOENT)
        return -1;
    error_clear();
    return 0;
}

int steps_list(const char *root, struct step_dir **list, int *aside)
{
    *list = NULL;
    int count = 0, others = 0;
    struct folder f;
    if (aside)
        *aside = 0;
    int there = open_root(&f, root);
    if (there <= 0)
        return there;
    for (const char *name; (name = folder_next(&f));) {
        int64_t step = step_of(name);
        others += is_set_aside(name);
        if (step < 0)
            continue;
        if ((count & (count + 1)) == 0)
            *list = xrealloc(*list, 2 * (size_t)count + 2, sizeof **list);
        (*list)[count++] = (struct step_dir){step, is_complete(root, name)};
    }
    if (folder_close(&f, 0) < 0)
        count = -1;
    if (count > 0)
        qsort(*list, count, sizeof **list, newest_first);
    if (aside)
        *aside = others;
    return count;
}

char *checkpoint_newest(const char *root, int64_t *step)
{
    struct step_dir *list;
    int count = steps_list(root, &list, NULL), i = 0;
    char *path = NULL;
    if (count >= 0)
        error_clear();
    while (i < count && !list[i].complete)
        i++;
    if (i < count) {
        path = step_path(root, list[i].step);
        if (step)
            *step = list[i].step;
    }
    free(list);
    return path;
}

int steps_refuse_root(const char *path)
{
    char *config = path_join(path, CONFIG_FILE), *newest = NULL;
    if (is_dir(path) && !file_exists(config))
        newest = checkpoint_newest(path, NULL);
    int r = newest
                ? error(STATUS_USAGE, "'%s' is a directory of steps: name one of them, like '%s'", path, newest)
                : 0;
    free(config);
    free(newest);
    return r;
}

int step_line(const char *dir, struct line *l)
{
    struct json_doc d;
    char *path = path_join(dir, STATE_FILE);
    *l = (struct line){0};
    int r = json_open_file(&d, path, MAX_STATE_BYTES);
    free(path);
    TRY(r);
    r = line_read(l, &d);
    json_close(&d);
    return r;
}

/* ---- what may go ---- */

int steps_sweep(const char *root)
{
    struct folder f;
    int rc = 0, there = open_root(&f, root);
    if (there <= 0)
        return there;
    for (const char *name; rc == 0 && (name = folder_next(&f));) {
        if (name[0] != '.' || !step_meant(name + 1) || !(ends_in(name, ".tmp") || ends_in(name, ".old")))
            continue;
        char *path = path_join(root, name);
        verbose("removing '%s', which a killed run left", path);
        rc = remove_tree(path);
        free(path);
    }
    return folder_close(&f, rc);
}

int step_retire(const char *root, int64_t step, const char *run)
{
    char *path = step_path(root, step), *doomed = step_hidden_path(root, step, run, "old");
    int rc = remove_tree(doomed);
    if (rc == 0 && rename(path, doomed) != 0)
        rc = error_errno("cannot rename '%s'", path);
    free(doomed);
    free(path);
    return rc;
}

/* Whether the line has what lies under this step's name. */
static bool is_of(const struct line *line, const char *root, int64_t step)
{
    struct line l;
    char *path = step_path(root, step);
    bool is = step_line(path, &l) == 0 && line_has(line, l.run, step);
    free(path);
    line_release(&l);
    return is;
}

int checkpoint_prune(const char *root, int keep, const struct line *line)
{
    struct step_dir *list;
    int count = steps_list(root, &list, NULL), rc = count < 0 ? -1 : 0, kept = 0;
    for (int i = 0; i < count && rc == 0; i++) {
        int64_t step = list[i].step;
        if (!list[i].complete || (line && !is_of(line, root, step)))
            continue;
        bool origin = line && line->count && line->from[0].until == step;
        if (kept++ >= keep && !origin)
            rc = step_retire(root, step, line ? line->run : "");
    }
    free(list);
    return rc == 0 ? steps_sweep(root) : rc;
}

char *step_aside_path(const char *root, int64_t step, const char *run, const char *why)
{
    char name[STEP_NAME], *to = NULL;
    for (int n = 1; !to || file_exists(to); n++) { /* root is this run's alone: the name stays free */
        free(to);
        to = n == 1 ? xasprintf("%s/%s.%.8s.%s", root, step_name(step, name), *run ? run : "before", why)
                    : xasprintf("%s/%s.%.8s-%d.%s", root, step_name(step, name), *run ? run : "before", n, why);
    }
    return to;
}

void step_say_aside(int64_t step, const char *path, const char *why)
{
    char name[STEP_NAME];
    notice("'%s' is %s: set aside as '%s'", step_name(step, name),
           strcmp(why, "broken") == 0 ? "not whole" : "of a branch that this run left", path);
}

static int set_aside(const char *root, int64_t step, const char *dir, const char *run, const char *why)
{
    char *to = step_aside_path(root, step, run, why);
    int rc = rename(dir, to) != 0 ? error_errno("cannot rename '%s' to '%s'", dir, to) : 0;
    if (rc == 0)
        step_say_aside(step, to, why);
    free(to);
    return rc;
}

int steps_tidy(const char *root, const struct line *line)
{
    struct step_dir *list;
    int count = steps_list(root, &list, NULL), rc = count < 0 ? -1 : 0;
    for (int i = 0; i < count && rc == 0; i++) {
        int64_t step = list[i].step;
        struct line l = {0};
        char *dir = step_path(root, step);
        bool known = list[i].complete && step_line(dir, &l) == 0;
        if (!known || !line_has(line, l.run, step))
            rc = set_aside(root, step, dir, l.run, known ? "abandoned" : "broken");
        line_release(&l);
        free(dir);
    }
    free(list);
    return rc == 0 ? steps_sweep(root) : rc;
}
