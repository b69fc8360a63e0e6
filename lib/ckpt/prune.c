/* SPDX-License-Identifier: MIT */
#include "ckpt/prune.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "ckpt/manifest.h"
#include "ckpt/mark.h"
#include "ckpt/steps.h"
#include "ckpt/verify.h"

struct known_step {
    int64_t step;
    char *path;
    struct line line;
    bool looked, whole; /* whether it was verified, and how that came out */
    bool stays;
};

struct pruning {
    struct known_step *list; /* newest first: those that say what line they are of */
    int count;
};

static int list_known(struct pruning *k, const char *root)
{
    struct step_dir *steps;
    int count = steps_list(root, &steps, NULL);
    TRY(count);
    k->list = xcalloc((size_t)count, sizeof *k->list);
    for (int i = 0; i < count; i++) {
        struct known_step *s = &k->list[k->count];
        *s = (struct known_step){.step = steps[i].step, .path = step_path(root, steps[i].step)};
        if (steps[i].complete && step_line(s->path, &s->line) == 0) {
            k->count++;
            continue;
        }
        notice("'%s' is not complete: it stays, and does not count", s->path);
        free(s->path);
    }
    free(steps);
    error_clear();
    return k->count ? 0 : error(STATUS_USAGE, "'%s' holds no steps", root);
}

static bool is_before(const struct known_step *s, const struct known_step *tip)
{
    return s == tip || line_has(&tip->line, s->line.run, s->step);
}

/* Whether no newer step comes from it. */
static bool is_tip(const struct pruning *k, int i)
{
    for (int j = 0; j < i; j++)
        if (is_before(&k->list[i], &k->list[j]))
            return false;
    return true;
}

static int look_at(struct known_step *s)
{
    struct verified v;
    if (s->looked)
        return 0;
    s->looked = true;
    verbose("verifying '%s'", s->path);
    TRY(verify_dir(&v, s->path));
    s->whole = v.problems.count == 0;
    if (!s->whole)
        complain("'%s' is not whole: it stays, and does not count: %s", s->path, v.problems.list[0]);
    verified_release(&v);
    return 0;
}

static int keep_line(struct pruning *k, int tip, int64_t keep)
{
    int64_t good = 0;
    for (int i = tip; i < k->count && good < keep; i++) {
        struct known_step *s = &k->list[i];
        if (!is_before(s, &k->list[tip]))
            continue;
        s->stays = true;
        TRY(look_at(s));
        good += s->whole;
    }
    return 0;
}

static int64_t bytes_of(const char *dir)
{
    struct manifest m;
    if (manifest_read(&m, dir) < 0)
        return 0;
    int64_t bytes = manifest_bytes(&m);
    manifest_release(&m);
    return bytes;
}

static int remove_rest(struct pruning *k, struct pruned *p, const char *root, bool dry_run)
{
    p->removed = xcalloc((size_t)k->count, sizeof *p->removed);
    for (int i = 0; i < k->count; i++) {
        struct known_step *s = &k->list[i];
        p->kept += s->stays;
        if (s->stays)
            continue;
        p->bytes += bytes_of(s->path);
        if (!dry_run)
            TRY(step_retire(root, s->step, s->line.run));
        p->removed[p->count++] = xstrdup(s->path);
    }
    error_clear();
    return dry_run || !p->count ? 0 : steps_sweep(root);
}

static int prune(struct pruning *k, struct pruned *p, const char *root, int64_t keep, bool dry_run)
{
    TRY(list_known(k, root));
    for (int i = 0; i < k->count; i++)
        if (is_tip(k, i))
            TRY(keep_line(k, i, keep));
    return remove_rest(k, p, root, dry_run);
}

int prune_root(struct pruned *p, const char *root, int64_t keep, bool dry_run)
{
    struct pruning k = {0};
    char id[RUN_ID];
    *p = (struct pruned){0};
    if (!is_dir(root))
        return error(STATUS_USAGE, "'%s' is no directory of steps", root);
    run_id_draw(id);
    struct mark *mark = dry_run ? NULL : mark_take(root, id, NULL);
    int rc = dry_run || mark ? prune(&k, p, root, keep, dry_run) : -1;
    mark_release(mark);
    for (int i = 0; i < k.count; i++) {
        free(k.list[i].path);
        line_release(&k.list[i].line);
    }
    free(k.list);
    return rc;
}

void pruned_release(struct pruned *p)
{
    for (int i = 0; i < p->count; i++)
        free(p->removed[i]);
    free(p->removed);
    *p = (struct pruned){0};
}
