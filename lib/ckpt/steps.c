/* SPDX-License-Identifier: MIT */
/* Step directories under a root: which are whole, which is newest, which may go. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/num.h"
#include "ckpt/checkpoint.h"
#include "ckpt/steps.h"

/* The step of "step-00000100"; -1 for any other name. */
static int64_t step_of(const char *name)
{
    char again[40];
    int64_t step;
    if (strncmp(name, "step-", 5) != 0 || !strchr("0123456789", name[5]))
        return -1;
    char *digits = xstrdup(name + 5);
    char *from = digits + strspn(digits, "0");
    bool number = *from ? parse_int(from, 0, INT64_MAX, &step) : (step = 0, name[5] != '\0');
    free(digits);
    if (!number)
        return -1;
    snprintf(again, sizeof again, "step-%08" PRId64, step);
    return strcmp(again, name) == 0 ? step : -1;
}

static bool is_whole(const char *root, const char *name)
{
    char *manifest = xasprintf("%s/%s/manifest.json", root, name),
         *state = xasprintf("%s/%s/state.json", root, name);
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
    char name[40];
    snprintf(name, sizeof name, "step-%08" PRId64, step);
    return path_join(root, name);
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

/* What a killed save or removal left. */
static int remove_leavings(const char *root)
{
    DIR *d = opendir(root);
    int rc = 0;
    for (struct dirent *e; d && rc == 0 && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, ".step-", 6) != 0 || n < 10 ||
            (strcmp(e->d_name + n - 4, ".tmp") != 0 && strcmp(e->d_name + n - 4, ".old") != 0))
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
        char *aside = xasprintf("%s/.step-%08" PRId64 ".old", root, steps[i]);
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
