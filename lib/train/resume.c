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
#include "base/num.h"
#include "base/process.h"
#include "ckpt/names.h"
#include "comm/host.h"
#include "engine/optimizer.h"
#include "engine/setup.h"
#include "train/algorithms.h"
#include "train/choose.h"
#include "train/feed.h"
#include "train/weights.h"

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
    line_write(&run->line, o);
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
    if (data)
        TRY(json_need_int(d, data, "identity", 0, UINT32_MAX, &identity));
    if (identity != data_identity(run->data) || sources != data_sources(run->data)) {
        notice("the data, its weights, the sequence length, the seed or shuffling are not the checkpoint's: "
               "the stream "
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

static int take_state(struct run *run, struct json_doc *d)
{
    TRY(run_agree(run, recipe_restore(&run->recipe, d)));
    TRY(run_agree(run, line_read(&run->line, d)));
    return run_agree(run, json_need_int(d, d->root, "step", 0, INT64_MAX, &run->step) < 0 ? -1 : 0);
}

/* All ranks have rank 0's options and its text of the state, so they come to one recipe. The seed decides
 * the data's order, so that comes before the data is opened. */
static int continue_from(struct run *run, const struct chosen *c)
{
    struct json_doc d;
    char *path = path_join(c->dir, STATE_FILE);
    int r = json_open(&d, c->state, strlen(c->state), path);
    free(path);
    TRY(run_agree(run, r));
    r = take_state(run, &d);
    if (r == 0) {
        recipe_settle(&run->recipe, run->o->steps, true);
        line_continue(&run->line, run->step, run->id);
        r = algorithms_take(run, c->dir);
    }
    if (r == 0)
        r = feed_open(run);
    if (r == 0)
        r = run_agree(run, restore_position(run, &d));
    json_close(&d);
    return r;
}

static int start_anew(struct run *run)
{
    memcpy(run->line.run, run->id, RUN_ID);
    recipe_settle(&run->recipe, run->o->steps, false);
    if (run->o->init) {
        run->companions = xstrdup(run->o->init);
        TRY(weights_import(run, run->o->init));
    } else {
        TRY(run_agree(run, engine_init_weights(&run->e, (uint64_t)run->recipe.seed)));
    }
    return feed_open(run);
}

static void say_resumed(const struct run *run, const struct chosen *c)
{
    notice("resumed from '%s' at step %" PRId64, c->dir, run->step);
    verbose("read %.3f MB, %.2f times the checkpoint's, on %d host%s, checked and loaded in %.2g s",
            1e-6 * (double)run->loaded, (double)run->loaded / (double)c->bytes, run->hosts, plural(run->hosts),
            run->load_s);
}

/* Weights that are no numbers are said, and are the user's affair: their rows may be of tokens that are
 * never seen. */
static int look_at_weights(struct run *run)
{
    bool finite;
    TRY(run_agree(run, states_finite(&run->e, true, &finite)));
    int64_t bad = !finite;
    TRY(host_max(comm_world(run->comm), &bad));
    run->finite = !bad;
    if (bad)
        notice("the weights that were read are not all finite");
    return 0;
}

int run_load_state(struct run *run)
{
    struct chosen c = {0};
    if (run->o->resume)
        TRY(choose_checkpoint(run, &c));
    if (run->o->resume && !c.dir)
        notice("no checkpoint under '%s': starting from step 0", run->o->resume);
    int r = c.dir ? continue_from(run, &c) : start_anew(run);
    if (r == 0)
        r = look_at_weights(run);
    if (r == 0 && c.dir)
        say_resumed(run, &c);
    if (c.dir)
        run->companions = xstrdup(c.dir);
    run->saved = c.dir ? run->step : -1;
    chosen_release(&c);
    return r;
}
