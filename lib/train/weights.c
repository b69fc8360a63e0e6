/* SPDX-License-Identifier: MIT */
#include "train/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "ckpt/load.h"
#include "ckpt/steps.h"
#include "comm/host.h"
#include "engine/buckets.h"
#include "model/compare.h"
#include "model/load.h"
#include "train/truth.h"

struct rank_state run_state(struct run *run)
{
    const struct arena *a = &run->e.arena;
    weights_settle(&run->e);
    struct rank_state s = {.plan = &run->plan,
                           .shards = &run->e.shards,
                           .rank = run->e.rank,
                           .be = run->be,
                           .stream = run->stream,
                           .companions = run->companions};
    for (int f = 0; f < FLATS; f++)
        s.weights[f] = a->weights[f];
    memcpy(s.state, a->state, sizeof s.state);
    return s;
}

/* ---- config.json ---- */

static bool is_allowed(const char *keys, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = keys; p && *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && strncmp(p, key, n) == 0)
            return true;
    return false;
}

/* Every key that is allowed to differ must be one that may. */
static int check_allowed(const struct model_figure *f, int count, const char *keys)
{
    for (const char *p = keys; p && *p; p += strcspn(p, ","), p += *p == ',') {
        int n = (int)strcspn(p, ","), i = 0;
        while (i < count && ((int)strlen(f[i].key) != n || strncmp(f[i].key, p, (size_t)n) != 0))
            i++;
        if (i == count)
            return error(STATUS_USAGE, "--allow-config: '%.*s' is no key of this model's that is compared", n,
                         p);
        if (f[i].kind == FIGURE_SHAPE)
            return error(STATUS_USAGE, "--allow-config: '%.*s' changes the shape of tensors, and cannot differ",
                         n, p);
    }
    return 0;
}

/* The config.json beside weights against the plan's model. Those of first weights may be trained otherwise. */
static int check_config(const struct run *run, const char *dir, bool first_weights)
{
    struct model m;
    struct model_figure f[MODEL_FIGURES];
    char differ[900] = "";
    size_t used = 0;
    TRY(steps_refuse_root(dir));
    if (!is_dir(dir))
        return error(STATUS_USAGE,
                     file_exists(dir) ? "'%s' is a file: weights come from the directory that it is in"
                                      : "no directory '%s' to take weights from",
                     dir);
    TRY(model_load(&m, dir));
    struct model planned = run->plan.model; /* windows that cannot act are as good as none */
    m.window = m.window < run->plan.batch.seq ? m.window : 0;
    planned.window = planned.window < run->plan.batch.seq ? planned.window : 0;
    int count = model_figures(&m, &planned, f), r = check_allowed(f, count, run->o->allow_config);
    for (int i = 0; i < count && r == 0; i++) {
        if (strcmp(f[i].a, f[i].b) == 0 || (first_weights && f[i].kind == FIGURE_TRAINING))
            continue;
        if (is_allowed(run->o->allow_config, f[i].key))
            notice("%s/" CONFIG_FILE ": %s is %s, the plan's %s: allowed", dir, f[i].key, f[i].a, f[i].b);
        else if (used < sizeof differ)
            used += (size_t)snprintf(differ + used, sizeof differ - used, "%s%s is %s and the plan's %s",
                                     used ? "; " : "", f[i].key, f[i].a, f[i].b);
    }
    model_release(&m);
    return used && r == 0
               ? error(STATUS_USAGE,
                       "%s/" CONFIG_FILE ": %s (make a plan for this model; --allow-config KEY,… for those "
                       "who mean it)",
                       dir, differ)
               : r;
}

/* ---- reading ---- */

static void add_up(void *into, const void *from, size_t bytes)
{
    int64_t *sum = into;
    const int64_t *x = from;
    for (size_t i = 0; i < bytes / sizeof *sum; i++)
        sum[i] += x[i];
}

/* Of a load that began with what `before` is: seconds, and bytes that all ranks have read. */
static int measure(struct run *run, double begin, int64_t before)
{
    int64_t bytes = file_bytes_read() - before;
    TRY(host_reduce(comm_world(run->comm), &bytes, sizeof bytes, add_up));
    run->load_s = now_s() - begin;
    run->loaded = bytes;
    return 0;
}

int weights_resume(struct run *run, const char *dir, const struct manifest *m, struct heard *h)
{
    struct rank_state s = run_state(run);
    double begin = now_s();
    int64_t before = file_bytes_read();
    TRY(run_agree(run, run_is_first(run) ? check_config(run, dir, false) : 0));
    int r = checkpoint_load(&s, run->comm, dir, m, h, &run->agreed);
    return r != 0 ? r : measure(run, begin, before);
}

/* The files that this rank has read of must be rank 0's: by their places or, where these differ, as hosts may
 * have copies, by what is in them. */
static int compare_seen(struct run *run, const char *dir, const char *places)
{
    bool first = run_is_first(run);
    char *rank0 = first ? xstrdup(places) : NULL, *seen = NULL, *all = NULL;
    int r = truth_send(run, 0, &rank0, NULL);
    int64_t differ = r == 0 && strcmp(places, rank0) != 0;
    free(rank0);
    TRY(r);
    TRY(host_max(comm_world(run->comm), &differ));
    if (!differ)
        return 0;
    seen = checkpoint_seen(dir);
    r = run_agree(run, seen ? 0 : -1);
    if (r == 0) {
        all = first ? xstrdup(seen) : NULL;
        r = truth_send(run, 0, &all, NULL);
    }
    if (r == 0)
        r = run_agree(run, truth_within(run, "weights", seen, all));
    free(seen);
    free(all);
    return r;
}

int weights_import(struct run *run, const char *dir)
{
    struct rank_state s = run_state(run);
    char *places = NULL;
    double begin = now_s();
    int64_t before = file_bytes_read();
    TRY(run_agree(run, run_is_first(run) ? check_config(run, dir, true) : 0));
    TRY(checkpoint_import(&s, run->comm, dir, &places, &run->agreed));
    int r = compare_seen(run, dir, places);
    free(places);
    return r == 0 ? measure(run, begin, before) : r;
}
