/* SPDX-License-Identifier: MIT */
#include "train/choose.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/process.h"
#include "ckpt/manifest.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "ckpt/sums.h"
#include "ckpt/whole.h"
#include "comm/host.h"
#include "train/truth.h"
#include "train/weights.h"

/* A directory that may be the one, and what rank 0 read there. */
struct candidate {
    char *dir, *manifest, *state;
    int64_t bytes; /* of all its files but the manifest */
};

static void candidate_release(struct candidate *c)
{
    free(c->dir);
    free(c->manifest);
    free(c->state);
    *c = (struct candidate){0};
}

/* ---- rank 0 ---- */

static char *read_whole(const char *dir, const char *name, size_t most)
{
    char *path = path_join(dir, name), *text = file_read(path, most, NULL);
    free(path);
    return text;
}

/* Whether state.json is for this moekit. */
static int check_state(const struct candidate *c, bool *refused)
{
    struct json_doc d;
    char *path = path_join(c->dir, STATE_FILE);
    int r = json_open(&d, c->state, strlen(c->state), path);
    free(path);
    TRY(r);
    r = format_check(&state_format, &d);
    *refused = r < 0;
    json_close(&d);
    return r;
}

/* Rank 0's look at it, at all but its tensors: 0; -1 with what is wrong. *refused: it is for a newer moekit,
 * which is no reason to take an older. */
static int look(struct candidate *c, bool *refused)
{
    struct problems p = {0};
    struct manifest m;
    *refused = false;
    int r = manifest_read(&m, c->dir);
    *refused = r < 0 && m.refused;
    TRY(r);
    whole_check(&p, &m, c->dir);
    sums_sizes(&p, &m, c->dir);
    if (!p.count)
        sums_side_files(&p, &m, c->dir, NULL);
    manifest_release(&m);
    r = problems_error(&p);
    problems_release(&p);
    if (r == 0 && (!(c->manifest = read_whole(c->dir, MANIFEST_FILE, MAX_MANIFEST_BYTES)) ||
                   !(c->state = read_whole(c->dir, STATE_FILE, MAX_STATE_BYTES))))
        r = -1;
    return r == 0 ? check_state(c, refused) : r;
}

/* ---- everyone ---- */

/* The manifest that this rank sees must be rank 0's, by its own sum. What its sums cover is then the same, or
 * found damaged. */
static int compare_manifest(struct run *run, const struct candidate *c)
{
    struct stat st;
    char tail[MANIFEST_SUM_BYTES];
    size_t size = strlen(c->manifest);
    char *path = path_join(c->dir, MANIFEST_FILE);
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    if (fd < 0 || fstat(fd, &st) != 0)
        r = error(STATUS_ENV, "host '%s' cannot read '%s', which rank 0's, '%s', can: %s", run->host, path,
                  run->first_host, strerror(errno));
    else if ((size_t)st.st_size == size &&
             pread_all(fd, tail, sizeof tail, (int64_t)(size - sizeof tail), path) < 0)
        r = -1;
    else if ((size_t)st.st_size != size || memcmp(tail, c->manifest + size - sizeof tail, sizeof tail) != 0)
        r = error(STATUS_USAGE, "'%s' on host '%s' is not the one on rank 0's, '%s'", path, run->host,
                  run->first_host);
    if (fd >= 0)
        close(fd);
    free(path);
    return r;
}

/* Loads it, as far as it goes: as weights_resume(). */
static int load(struct run *run, struct candidate *c, struct heard *h)
{
    struct manifest m;
    TRY(run_agree(run, manifest_parse(&m, c->manifest, strlen(c->manifest), c->dir)));
    c->bytes = manifest_bytes(&m);
    int r = weights_resume(run, c->dir, &m, h);
    manifest_release(&m);
    return r;
}

/* Rank 0 looks, and all load. 0: it is whole, and loaded; 1: it is not, *h says how; -1 with error(). */
static int examine(struct run *run, struct candidate *c, struct heard *h)
{
    bool refused = false;
    int r = comm_hear(run->comm, run_is_first(run) ? look(c, &refused) : 0, h);
    bool ends = refused || (r == 1 && h->status == STATUS_ENV); /* not to be read now is not damaged */
    if (ends && run_is_first(run))
        error(h->status, "%s", h->text);
    TRY(run_agree(run, ends && run_is_first(run) ? -1 : 0));
    if (r != 0)
        return r;
    TRY(truth_send(run, 0, &c->manifest, NULL));
    TRY(truth_send(run, 0, &c->state, NULL));
    TRY(run_agree(run, compare_manifest(run, c)));
    return load(run, c, h);
}

/* ---- the choice ---- */

/* What --resume may mean: one step directory, or those of a root, the newest first. */
struct choices {
    bool one;
    char **dirs;
    int count, aside;
};

static bool holds(const char *dir, const char *name)
{
    char *path = path_join(dir, name);
    bool has = file_exists(path);
    free(path);
    return has;
}

/* Whether the path is of a checkpoint, whole or not, or of a model: not a root. A root may have any name,
 * and hold a config.json beside its steps. */
static bool is_one(const char *path, int steps)
{
    const char *slash = strrchr(path, '/');
    if (step_of(slash ? slash + 1 : path) >= 0 || holds(path, MANIFEST_FILE) || holds(path, STATE_FILE))
        return true;
    return steps == 0 && (holds(path, PLAN_FILE) || holds(path, CONFIG_FILE));
}

/* A model that no run has made: what it has is weights. */
static bool is_model(const char *path)
{
    const char *slash = strrchr(path, '/');
    return is_dir(path) && step_of(slash ? slash + 1 : path) < 0 && !holds(path, MANIFEST_FILE) &&
           !holds(path, STATE_FILE) && !holds(path, PLAN_FILE);
}

static int find_choices(const char *path, struct choices *c)
{
    char *plain = xstrdup(path);
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = '\0';
    struct step_dir *list = NULL;
    *c = (struct choices){0};
    int count = steps_list(plain, &list, &c->aside), r = count < 0 ? -1 : 0;
    c->one = r == 0 && is_one(plain, count + c->aside);
    if (c->one && !is_dir(plain))
        r = error(STATUS_USAGE, "no checkpoint '%s'", plain);
    if (c->one && is_model(plain))
        r = error(STATUS_USAGE,
                  "'%s' is a model, and no checkpoint to go on from: its weights go behind --init", plain);
    c->count = c->one ? 1 : max64(count, 0);
    c->dirs = xcalloc((size_t)max64(c->count, 1), sizeof *c->dirs);
    for (int i = 0; i < c->count && r == 0; i++)
        c->dirs[i] = c->one ? xstrdup(plain) : step_path(plain, list[i].step);
    free(list);
    free(plain);
    return r;
}

static void choices_release(struct choices *c)
{
    for (int i = 0; i < c->count; i++)
        free(c->dirs[i]);
    free(c->dirs);
}

/* Rank 0 offers them one after the other; "" ends them. */
static int choose(struct run *run, const struct choices *c, struct chosen *out)
{
    for (int i = 0;; i++) {
        struct heard h;
        bool offers = run_is_first(run) && i < c->count;
        struct candidate x = {.dir = offers ? path_absolute(c->dirs[i]) : NULL};
        int r = truth_send(run, 0, &x.dir, NULL);
        if (r == 0 && offers) { /* rank 0 says it as it was given */
            free(x.dir);
            x.dir = xstrdup(c->dirs[i]);
        }
        bool end = r == 0 && !*x.dir;
        if (r == 0 && !end)
            r = examine(run, &x, &h);
        if (r == 0 && !end) {
            *out = (struct chosen){.dir = x.dir, .state = x.state, .bytes = x.bytes};
            x.dir = x.state = NULL;
        }
        if (r == 1 && c->one) {
            error(h.status, "%s", h.text);
            r = run_agree(run, -1);
        } else if (r == 1) {
            complain("passing over '%s', which is not whole: %s", x.dir, h.text);
        }
        candidate_release(&x);
        if (r <= 0)
            return r;
    }
}

int choose_checkpoint(struct run *run, struct chosen *out)
{
    struct choices c = {0};
    bool first = run_is_first(run);
    *out = (struct chosen){0};
    int r = run_agree(run, first ? find_choices(run->o->resume, &c) : 0);
    int64_t one = c.one;
    if (r == 0)
        r = host_broadcast(comm_world(run->comm), 0, &one, sizeof one);
    c.one = one != 0;
    if (r == 0)
        r = choose(run, &c, out);
    if (r == 0 && !out->dir) {
        if (first && c.count + c.aside)
            error(STATUS_USAGE,
                  "no step under '%s' is whole (%d passed over, %d set aside): see moe-ckpt verify; to start "
                  "anew "
                  "give another directory",
                  run->o->resume, c.count, c.aside);
        r = run_agree(run, first && c.count + c.aside ? -1 : 0);
    }
    if (first)
        choices_release(&c);
    return r;
}

void chosen_release(struct chosen *c)
{
    free(c->dir);
    free(c->state);
    *c = (struct chosen){0};
}
