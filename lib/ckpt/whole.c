/* SPDX-License-Identifier: MIT */
#include "ckpt/whole.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "model/model.h"
#include "tensors/hfdir.h"

static void need_files(struct problems *p, const struct manifest *m, const char *dir)
{
    static const char *const needed[] = {CONFIG_FILE, INDEX_FILE, PLAN_FILE, STATE_FILE};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!manifest_find(m, needed[i]))
            problem(p, "%s/" MANIFEST_FILE ": does not list '%s'", dir, needed[i]);
}

/* The step that state.json says, or -1: noted. */
static int64_t state_step(struct problems *p, const char *dir)
{
    struct json_doc d;
    int64_t step = -1;
    char *path = path_join(dir, STATE_FILE);
    int r = json_open_file(&d, path, MAX_STATE_BYTES);
    if (r == 0) {
        r = json_need_int(&d, d.root, "step", 0, INT64_MAX, &step);
        json_close(&d);
    }
    if (r < 0)
        problem(p, "%s", error_text());
    if (r < 0 && error_status() == STATUS_ENV)
        problem_unreadable(p);
    free(path);
    return step;
}

void whole_check(struct problems *p, const struct manifest *m, const char *dir)
{
    need_files(p, m, dir);
    const char *slash = strrchr(dir, '/');
    int64_t named = step_of(slash ? slash + 1 : dir), state = state_step(p, dir);
    if (state >= 0 && state != m->step)
        problem(p, "%s: its " MANIFEST_FILE " is of step %" PRId64 ", its " STATE_FILE " of step %" PRId64, dir,
                m->step, state);
    if (named >= 0 && named != m->step)
        problem(p, "%s: is called step %" PRId64 ", and its " MANIFEST_FILE " is of step %" PRId64, dir, named,
                m->step);
}
