/* SPDX-License-Identifier: MIT */
#include "ckpt/steps.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/names.h"

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

bool step_meant(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, prefix, strlen(prefix)) == 0;
}

static bool is_whole(const char *root, const char *name)
{
    char *manifest = xasprintf("%s/%s/" MANIFEST_FILE, root, name),
         *state = xasprintf("%s/%s/" STATE_FILE, root, name);
    bool whole = file_exists(manifest) && file_exists(state);
    free(manifest);
    free(state);
    return whole;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

int steps_list(const char *root, int64_t **steps)
{
    *steps = NULL;
    DIR *d = opendir(root);
    if (!d)
        return errno == ENOENT ? 0 : error_errno("cannot open '%s'", root);
    int count = 0;
    errno = 0;
    for (struct dirent *e; (e = readdir(d)); errno = 0) {
        int64_t step = step_of(e->d_name);
        if (step < 0 || !is_whole(root, e->d_name))
            continue;
        if ((count & (count + 1)) == 0)
            *steps = xrealloc(*steps, 2 * (size_t)count + 2, sizeof **steps);
        (*steps)[count++] = step;
    }
    if (errno)
        count = error_errno("cannot read '%s'", root);
    closedir(d);
    if (count > 0)
        qsort(*steps, count, sizeof **steps, newest_first);
    return count;
}

char *step_path(const char *root, int64_t step)
{
    char name[STEP_NAME];
    return path_join(root, step_name(step, name));
}

char *step_hidden_path(const char *root, int64_t step, const char *suffix)
{
    char name[STEP_NAME];
    return xasprintf("%s/.%s%s", root, step_name(step, name), suffix);
}

char *checkpoint_newest(const char *root, int64_t *step)
{
    int64_t *steps;
    int count = steps_list(root, &steps);
    char *path = NULL;
    if (count >= 0)
        error_clear();
    if (count > 0) {
        path = step_path(root, steps[0]);
        if (step)
            *step = steps[0];
    }
    free(steps);
    return path;
}

/* What step_hidden_path() names. */
static bool is_leaving(const char *name)
{
    size_t n = strlen(name);
    return name[0] == '.' && step_meant(name + 1) && n >= 4 &&
           (strcmp(name + n - 4, ".tmp") == 0 || strcmp(name + n - 4, ".old") == 0);
}

/* What a killed save or removal left. */
static int remove_leavings(const char *root)
{
    DIR *d = opendir(root);
    int rc = 0;
    for (struct dirent *e; d && rc == 0 && (e = readdir(d));) {
        if (!is_leaving(e->d_name))
            continue;
        char *path = path_join(root, e->d_name);
        rc = remove_tree(path);
        free(path);
    }
    if (d)
        closedir(d);
    return rc;
}

int checkpoint_prune(const char *root, int keep)
{
    int64_t *steps;
    int count = steps_list(root, &steps), rc = count < 0 ? -1 : 0;
    for (int i = keep > 0 ? keep : 0; i < count && rc == 0; i++) {
        char *path = step_path(root, steps[i]);
        char *aside = step_hidden_path(root, steps[i], ".old");
        rc = remove_tree(aside);
        if (rc == 0 && rename(path, aside) != 0)
            rc = error_errno("cannot rename '%s'", path);
        free(aside);
        free(path);
    }
    free(steps);
    if (rc == 0)
        rc = remove_leavings(root);
    return rc;
}
