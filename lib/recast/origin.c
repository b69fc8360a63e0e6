/* SPDX-License-Identifier: MIT */
#include "recast/origin.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/outdir.h"
#include "ckpt/companion.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "ckpt/verify.h"
#include "model/load.h"
#include "tensors/source.h"

static int verified(struct origin *o, const char *path)
{
    struct verified v;
    TRY(verify_dir(&v, path));
    int rc = 0;
    o->step = v.step;
    if (v.problems.count)
        rc = error(v.problems.unreadable ? STATUS_ENV : STATUS_USAGE, "%s: not whole: %s%s", path,
                   v.problems.list[0], v.problems.count > 1 ? ", and more: see 'moe-ckpt verify'" : "");
    verified_release(&v);
    return rc;
}

static int read_step(struct origin *o)
{
    struct manifest m;
    if (!o->step)
        return 0;
    o->optimizer = (struct hf_dir){.path = path_join(o->path, OPTIMIZER_DIR)};
    TRY(manifest_read(&m, o->path));
    o->at_step = m.step;
    manifest_release(&m);
    return 0;
}

int origin_open(struct origin *o, const char *path, bool verify)
{
    *o = (struct origin){.path = path};
    if (verify)
        TRY(verified(o, path));
    else
        o->step = is_step_dir(path);
    if (!is_dir(path))
        return error(STATUS_USAGE,
                     file_exists(path) ? "'%s' is not a directory (of an archive moe-ckpt restore makes one)"
                                       : "'%s' does not exist",
                     path);
    TRY(steps_refuse_root(path));
    TRY(model_load(&o->model, path));
    int rc = inventory_init(&o->inventory, &o->model);
    if (rc == 0 && verify && *o->model.quantised)
        rc = error(STATUS_USAGE, "%s: is quantised (%s): only plain numbers can be recast", path,
                   o->model.quantised);
    if (rc == 0)
        rc = hf_open(&o->weights, path);
    if (rc == 0)
        hf_say_unread(&o->weights);
    if (rc == 0)
        rc = read_step(o);
    if (rc < 0)
        origin_release(o);
    return rc;
}

void origin_release(struct origin *o)
{
    hf_close(&o->weights);
    hf_close(&o->optimizer);
    inventory_release(&o->inventory);
    model_release(&o->model);
}

int origin_piece(struct origin *o, const struct tensor *t, int state, struct piece *p, const char **file)
{
    struct stored at;
    char name[160];
    TRY(source_find(&o->weights, &o->model, t, &at));
    *file = o->weights.files[at.file].name;
    *p = (struct piece){&o->weights, at.file, at.number, at.offset, tensor_count(t), 0};
    if (state == WEIGHTS)
        return 1;
    if (!t->trained)
        return 0;
    p->file = hf_file_named(&o->optimizer, *file);
    p->dir = &o->optimizer;
    p->from = NUMBER_F32; /* verified */
    const struct st_file *f = hf_file(&o->optimizer, p->file);
    if (!f)
        return -1;
    const struct st_tensor *x = st_find(f, map_tensor_name(&o->model, t, state, name));
    p->offset = x ? x->begin : 0;
    return x != NULL;
}

int origin_apart(const struct origin *o, const char *out)
{
    return path_within(out, o->path)
               ? error(STATUS_USAGE, "'%s' would lie in '%s', which is to stay as it is", out, o->path)
               : 0;
}

int origin_put(const struct origin *o, const char *dir, const char *config, struct manifest *m)
{
    TRY(manifest_put(m, dir, CONFIG_FILE, config, strlen(config)));
    return companions_put(m, o->path, dir, NULL);
}

struct like_writing {
    const struct origin *o;
    const char *config, *doing;
    struct draft *draft;
};

static int write_files(void *with, const char *dir)
{
    const struct like_writing *w = with;
    TRY(make_dirs(dir));
    TRY(origin_put(w->o, dir, w->config, NULL));
    TRY(draft_write(w->draft, dir, NULL, w->doing));
    return sync_dir(dir);
}

int origin_write_like(const struct origin *o, const char *target, const char *config, struct draft *d,
                      const char *doing)
{
    struct like_writing w = {o, config, doing, d};
    TRY(origin_apart(o, target));
    return outdir_fill(target, write_files, &w);
}
