/* SPDX-License-Identifier: MIT */
/* Where a run starts from: state.json holds the step, the position in the data and the recipe. */
#include "train/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "ckpt/load.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "engine/setup.h"
#include "train/feed.h"

struct rank_state run_state(struct run *run)
{
    const struct arena *a = &run->e.arena;
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

char *run_state_text(struct run *run)
{
    int sources = data_sources(run->data);
    int64_t *given = xcalloc((size_t)sources, sizeof *given);
    data_tell(run->data, given);
    json_t *list = json_array();
    for (int i = 0; i < sources; i++)
        json_array_append_new(list, json_integer(given[i]));
    free(given);
    char *recipe = recipe_json(&run->recipe);
    json_t *o = json_pack("{s:i,s:I,s:{s:I,s:o},s:o}", state_format.key, state_format.version, "step",
                          (json_int_t)run->step, "data", "identity", (json_int_t)data_identity(run->data),
                          "given", list, "recipe", json_loads(recipe, 0, NULL));
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(o);
    free(recipe);
    return text;
}

static int restore_position(struct run *run, struct json_doc *d)
{
    const json_t *data = json_object_get(d->root, "data"), *list = json_object_get(data, "given");
    int sources = (int)json_array_size(list);
    int64_t identity = -1;
    TRY(json_need_int(d, d->root, "step", 0, INT64_MAX, &run->step));
    if (data)
        TRY(json_need_int(d, data, "identity", 0, UINT32_MAX, &identity));
    if (identity != data_identity(run->data) || sources != data_sources(run->data)) {
        notice("the data, its weights, the sequence length or the seed are not the checkpoint's: the stream "
               "starts anew");
        return 0;
    }
    int64_t *given = xcalloc((size_t)sources, sizeof *given);
    for (int i = 0; i < sources; i++)
        given[i] = json_integer_value(json_array_get(list, (size_t)i));
    int r = data_seek(run->data, given, sources);
    free(given);
    return r;
}

#define MAX_STATE ((size_t)256 << 20)

/* Opens state.json. One for a newer moekit is refused before anything else of the directory is read. */
static int open_state(struct json_doc *d, const char *dir)
{
    char *path = path_join(dir, STATE_FILE);
    int r = json_open_file(d, path, MAX_STATE);
    free(path);
    TRY(r);
    r = format_check(&state_format, d);
    if (r < 0)
        json_close(d);
    return r;
}

/* The seed decides the data's order, so the recipe comes before the data is opened. */
static int continue_from(struct run *run, const char *dir)
{
    struct rank_state s = run_state(run);
    struct json_doc d;
    TRY(open_state(&d, dir));
    int r = recipe_restore(&run->recipe, &d);
    if (r == 0)
        r = checkpoint_load(&s, dir, NULL);
    if (r == 0)
        r = feed_open(run);
    if (r == 0)
        r = restore_position(run, &d);
    json_close(&d);
    return r;
}

/* What --resume names: a step directory; the newest one under a root (caller frees), or NULL when there is
 * none. */
static int resume_directory(const char *path, char **dir)
{
    *dir = NULL;
    char *manifest = path_join(path, MANIFEST_FILE);
    bool is_step = file_exists(manifest);
    free(manifest);
    if (is_step) {
        *dir = xstrdup(path);
        return 0;
    }
    if (!is_dir(path) && step_meant(path))
        return error(STATUS_USAGE, "no checkpoint '%s'", path);
    int64_t step;
    *dir = checkpoint_newest(path, &step);
    return !*dir && error_status() != STATUS_DONE ? -1 : 0;
}

static int first_weights(struct run *run)
{
    if (!run->o->init)
        return engine_init_weights(&run->e, (uint64_t)run->recipe.seed);
    struct rank_state s = run_state(run);
    run->companions = xstrdup(run->o->init);
    return checkpoint_import(&s, run->o->init);
}

static int start_anew(struct run *run)
{
    TRY(first_weights(run));
    return feed_open(run);
}

int run_load_state(struct run *run)
{
    char *dir = NULL;
    if (run->o->resume)
        TRY(resume_directory(run->o->resume, &dir));
    if (run->o->resume && !dir && run_is_first(run))
        notice("no checkpoint under '%s': starting from step 0", run->o->resume);
    int r = dir ? continue_from(run, dir) : start_anew(run);
    if (r == 0 && dir && run_is_first(run))
        notice("resumed from '%s' at step %" PRId64, dir, run->step);
    if (dir)
        run->companions = dir;
    run->saved = dir ? run->step : -1;
    return r;
}
