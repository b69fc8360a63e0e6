/* SPDX-License-Identifier: MIT */
#include "ckpt/list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "ckpt/manifest.h"
#include "ckpt/names.h"
#include "ckpt/shares.h"
#include "ckpt/stats.h"
#include "ckpt/steps.h"
#include "model/load.h"
#include "model/size.h"
#include "plan/text.h"
#include "tensors/hfdir.h"

/* What is to be told; parts that the directory does not have are NULL. */
struct listing {
    const char *path;
    struct hf_dir weights, optimizer;
    struct model model;
    struct plan plan;
    struct manifest manifest;
    bool has_model, has_plan, has_manifest, has_optimizer;
    bool stats; /* of each tensor are wanted */
};

/* Everything here is extra: a directory without them is listed all the same, and one that has something else in
 * their place is, too. */
static bool extra(int result)
{
    if (result == 0)
        return true;
    notice("%s: left out here", error_text());
    error_clear();
    return false;
}

static void open_extras(struct listing *l)
{
    char *config = path_join(l->path, CONFIG_FILE), *plan = path_join(l->path, PLAN_FILE);
    char *manifest = path_join(l->path, MANIFEST_FILE), *optimizer = path_join(l->path, OPTIMIZER_DIR);
    l->has_model = file_exists(config) && extra(model_load(&l->model, config));
    l->has_plan = file_exists(plan) && extra(plan_read(&l->plan, plan));
    l->has_manifest = file_exists(manifest) && extra(manifest_read(&l->manifest, l->path));
    l->has_optimizer = is_dir(optimizer) && extra(hf_open(&l->optimizer, optimizer));
    free(config);
    free(plan);
    free(manifest);
    free(optimizer);
}

static void close_listing(struct listing *l)
{
    hf_close(&l->weights);
    if (l->has_optimizer)
        hf_close(&l->optimizer);
    if (l->has_model)
        model_release(&l->model);
    if (l->has_plan)
        plan_release(&l->plan);
    if (l->has_manifest)
        manifest_release(&l->manifest);
}

static int open_all(struct hf_dir *d)
{
    for (int i = 0; i < d->file_count; i++)
        if (!hf_file(d, i))
            return -1;
    return 0;
}

/* ---- for people ---- */

static void print_head(const struct listing *l, FILE *out)
{
    if (l->has_manifest)
        fprintf(out, "# step %" PRId64 "\n", l->manifest.step);
    if (l->has_model)
        fprintf(out, "# model %s: %" PRId64 " parameters, %" PRId64 " layers, %" PRId64 " experts\n",
                model_family(&l->model)->type, model_parameters(&l->model), l->model.layers, l->model.experts);
    if (l->has_plan) {
        const struct axes *a = &l->plan.axes;
        fprintf(out,
                "# plan %d ranks: tp %" PRId64 " dp %" PRId64 " ep %" PRId64 " etp %" PRId64 " edp %" PRId64
                " pp %" PRId64 ", %s, zero %d\n",
                l->plan.world, a->tp, a->dp, a->ep, a->etp, a->edp, a->pp,
                precision_name[l->plan.training.precision], l->plan.training.zero);
    }
}

static void print_files(struct hf_dir *d, const char *prefix, int64_t *tensors, int64_t *bytes, FILE *out)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = &d->files[i].st;
        char types[DTYPES_ROOM] = "";
        for (int k = 0; k < f->count; k++)
            dtypes_add(types, f->tensors[k].dtype);
        fprintf(out, "%9d  %15" PRId64 "  %-8s  %s%s\n", f->count, f->size, *types ? types : "-", prefix,
                d->files[i].name);
        *tensors += f->count;
        *bytes += f->size;
    }
}

static void print_table(struct listing *l, FILE *out)
{
    int64_t tensors = 0, bytes = 0;
    char size[24];
    print_head(l, out);
    fprintf(out, "# tensors            bytes  dtype     file\n");
    print_files(&l->weights, "", &tensors, &bytes, out);
    if (l->has_optimizer)
        print_files(&l->optimizer, OPTIMIZER_DIR "/", &tensors, &bytes, out);
    fprintf(out, "# %" PRId64 " tensor%s, %s\n", tensors, plural(tensors), human_bytes((double)bytes, size));
}

/* Norm, largest, how many are not finite, as columns. */
static void print_stats(const struct tensor_stats *s, FILE *out)
{
    if (s->known)
        fprintf(out, "%-12.6g %-12.6g %6" PRId64 "  ", s->norm, s->max_abs, s->odd);
    else
        fprintf(out, "%-12s %-12s %6s  ", "-", "-", "-");
}

static int print_tensors(struct hf_dir *d, const char *prefix, bool stats, FILE *out)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = &d->files[i].st;
        for (int k = 0; k < f->count; k++) {
            char shape[192];
            struct tensor_stats figures;
            if (stats) {
                TRY(tensor_stats(&figures, d, i, &f->tensors[k]));
                print_stats(&figures, out);
            }
            fprintf(out, "%-5s %-16s %13" PRId64 "  %s  %s%s\n", f->tensors[k].dtype,
                    st_shape_text(&f->tensors[k], shape), f->tensors[k].end - f->tensors[k].begin,
                    f->tensors[k].name, prefix, d->files[i].name);
        }
    }
    return 0;
}

static int print_all_tensors(struct listing *l, FILE *out)
{
    if (l->stats)
        fprintf(out, "# norm       largest      not finite, then dtype, shape, bytes, name, file\n");
    TRY(print_tensors(&l->weights, "", l->stats, out));
    return l->has_optimizer ? print_tensors(&l->optimizer, OPTIMIZER_DIR "/", l->stats, out) : 0;
}

/* "3", or "-" for less than 0. */
static const char *number_or_dash(int n, char buf[static 16])
{
    snprintf(buf, 16, n < 0 ? "-" : "%d", n);
    return buf;
}

static int count_shares(struct listing *l, struct shares *s)
{
    if (!l->has_model)
        return error(STATUS_USAGE,
                     "'%s' has no config.json of a model that moekit knows: whose its tensors are "
                     "cannot be told",
                     l->path);
    return shares_count(s, &l->model, &l->weights, l->has_optimizer ? &l->optimizer : NULL, l->stats);
}

/* "# 64 experts in all layers: 400 MB; the rest: 100 MB; of the optimizer: 2.5 GB" */
static void print_share_totals(const struct shares *s, FILE *out)
{
    int64_t experts = 0, own = 0, rest = 0, state = 0;
    char sizes[3][24];
    for (int i = 0; i < s->count; i++) {
        const struct share *x = &s->list[i];
        experts += x->expert >= 0;
        *(x->expert >= 0 ? &own : &rest) += x->bytes;
        state += x->state_bytes;
    }
    fprintf(out, "# %" PRId64 " experts in all layers: %s; the rest: %s; of the optimizer: %s\n", experts,
            human_bytes((double)own, sizes[0]), human_bytes((double)rest, sizes[1]),
            human_bytes((double)state, sizes[2]));
    if (s->strangers)
        fprintf(out, "# and %d tensor%s not the model's\n", s->strangers, plural(s->strangers));
}

static int print_shares(struct listing *l, FILE *out)
{
    struct shares s;
    char layer[16], expert[16];
    TRY(count_shares(l, &s));
    print_head(l, out);
    fprintf(out, "%s  expert  tensors            bytes        optimizer  dtype\n",
            l->stats ? "# norm       largest      not finite, then layer" : "# layer");
    for (int i = 0; i < s.count; i++) {
        const struct share *x = &s.list[i];
        if (l->stats)
            print_stats(&x->figures, out);
        fprintf(out, "%7s %7s %8d  %15" PRId64 "  %15" PRId64 "  %s\n", number_or_dash(x->layer, layer),
                number_or_dash(x->expert, expert), x->tensors, x->bytes, x->state_bytes, x->dtypes);
    }
    print_share_totals(&s, out);
    shares_release(&s);
    return 0;
}

/* ---- for scripts ---- */

static json_t *tensor_json(const struct st_tensor *t)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->dims; d++)
        json_array_append_new(shape, json_integer(t->shape[d]));
    return json_pack("{s:o, s:s, s:o, s:I}", "name", json_bytes(t->name), "dtype", t->dtype, "shape", shape,
                     "bytes", (json_int_t)(t->end - t->begin));
}

static void add_stats(json_t *o, const struct tensor_stats *s)
{
    json_object_set_new(o, "norm", s->known ? json_real(s->norm) : json_null());
    json_object_set_new(o, "max_abs", s->known ? json_real(s->max_abs) : json_null());
    json_object_set_new(o, "not_finite", s->known ? json_integer(s->odd) : json_null());
}

static int files_json(struct hf_dir *d, const char *prefix, bool stats, json_t *files)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = &d->files[i].st;
        json_t *tensors = json_array();
        char *name = xasprintf("%s%s", prefix, d->files[i].name);
        json_array_append_new(files, json_pack("{s:o, s:I, s:o}", "name", json_bytes(name), "bytes",
                                               (json_int_t)f->size, "tensors", tensors));
        free(name);
        for (int k = 0; k < f->count; k++) {
            json_t *one = tensor_json(&f->tensors[k]);
            json_array_append_new(tensors, one);
            struct tensor_stats figures;
            if (stats) {
                TRY(tensor_stats(&figures, d, i, &f->tensors[k]));
                add_stats(one, &figures);
            }
        }
    }
    return 0;
}

static json_t *index_or_null(int n)
{
    return n < 0 ? json_null() : json_integer(n);
}

/* experts[]: null for what is of no layer, or no expert. */
static int shares_json(struct listing *l, json_t *root)
{
    struct shares s;
    TRY(count_shares(l, &s));
    json_t *list = json_array();
    for (int i = 0; i < s.count; i++) {
        const struct share *x = &s.list[i];
        json_t *one = json_pack("{s:o, s:o, s:i, s:I, s:I, s:s}", "layer", index_or_null(x->layer), "expert",
                                index_or_null(x->expert), "tensors", x->tensors, "bytes", (json_int_t)x->bytes,
                                "optimizer_bytes", (json_int_t)x->state_bytes, "dtype", x->dtypes);
        if (l->stats)
            add_stats(one, &x->figures);
        json_array_append_new(list, one);
    }
    json_object_set_new(root, "experts", list);
    shares_release(&s);
    return 0;
}

static int print_json(json_t *root, FILE *out)
{
    int rc = json_dumpf(root, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(root);
    return rc == 0 && !ferror(out) ? 0 : error_errno("cannot write the list");
}

static int listing_json(struct listing *l, bool experts, FILE *out)
{
    json_t *root = json_pack("{s:o}", "path", json_bytes(l->path)), *files = json_array();
    if (l->has_manifest)
        json_object_set_new(root, "step", json_integer(l->manifest.step));
    if (l->has_model)
        json_object_set_new(root, "model",
                            json_pack("{s:s, s:I, s:I, s:I}", "type", model_family(&l->model)->type,
                                      "parameters", (json_int_t)model_parameters(&l->model), "layers",
                                      (json_int_t)l->model.layers, "experts", (json_int_t)l->model.experts));
    if (l->has_plan) {
        const struct axes *a = &l->plan.axes;
        json_object_set_new(
            root, "plan",
            json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:i}", "ranks", l->plan.world, "tp",
                      (json_int_t)a->tp, "dp", (json_int_t)a->dp, "ep", (json_int_t)a->ep, "etp",
                      (json_int_t)a->etp, "edp", (json_int_t)a->edp, "pp", (json_int_t)a->pp, "precision",
                      precision_name[l->plan.training.precision], "zero", l->plan.training.zero));
    }
    int rc = 0;
    if (experts) {
        json_decref(files);
        rc = shares_json(l, root);
    } else {
        json_object_set_new(root, "files", files);
        rc = files_json(&l->weights, "", l->stats, files);
        if (rc == 0 && l->has_optimizer)
            rc = files_json(&l->optimizer, OPTIMIZER_DIR "/", l->stats, files);
    }
    if (rc == 0)
        return print_json(root, out);
    json_decref(root);
    return rc;
}

/* ---- a root ---- */

/* -1: no good manifest, or one for a newer moekit. */
static int64_t step_bytes(const char *dir, bool *refused)
{
    struct manifest m;
    int rc = manifest_read(&m, dir);
    *refused = m.refused;
    if (rc < 0)
        return -1;
    int64_t bytes = manifest_bytes(&m);
    manifest_release(&m);
    return bytes;
}

static int list_root(const char *root, const struct step_dir *steps, int count, int aside, bool json, FILE *out)
{
    json_t *list = json_array();
    if (!json)
        fprintf(out, "#     step            bytes  directory\n");
    for (int i = count - 1; i >= 0; i--) {
        int64_t step = steps[i].step;
        char *dir = step_path(root, step);
        if (!steps[i].complete) {
            notice("'%s' is left out: it has no " MANIFEST_FILE " or no " STATE_FILE, dir);
            free(dir);
            continue;
        }
        bool refused;
        int64_t bytes = step_bytes(dir, &refused);
        if (json)
            json_array_append_new(list, json_pack("{s:o, s:I, s:I}", "path", json_bytes(dir), "step",
                                                  (json_int_t)step, "bytes", (json_int_t)bytes));
        else if (bytes < 0)
            fprintf(out, "%10" PRId64 "  %15s  %s\n", step, refused ? "newer moekit" : "bad manifest", dir);
        else
            fprintf(out, "%10" PRId64 "  %15" PRId64 "  %s\n", step, bytes, dir);
        free(dir);
    }
    error_clear();
    if (json)
        return print_json(
            json_pack("{s:o, s:o, s:i}", "path", json_bytes(root), "steps", list, "set_aside", aside), out);
    if (aside)
        fprintf(out, "# %d set aside\n", aside);
    json_decref(list);
    return 0;
}

static int print_listing(struct listing *l, const struct list_request *r, FILE *out)
{
    if (r->json)
        return listing_json(l, r->form == LIST_EXPERTS, out);
    if (r->form == LIST_TENSORS)
        return print_all_tensors(l, out);
    if (r->form == LIST_EXPERTS)
        return print_shares(l, out);
    print_table(l, out);
    return 0;
}

int list_dir(const struct list_request *r, FILE *out)
{
    const char *path = r->path;
    struct step_dir *steps = NULL;
    if (!is_dir(path))
        return error(STATUS_USAGE, file_exists(path) ? "'%s' is not a directory" : "'%s' does not exist", path);
    int aside, count = steps_list(path, &steps, &aside), complete = 0;
    for (int i = 0; i < count; i++)
        complete += steps[i].complete;
    if (complete > 0 && r->form == LIST_FILES && !r->stats) {
        int rc = list_root(path, steps, count, aside, r->json, out);
        free(steps);
        return rc;
    }
    free(steps);
    if (count > 0)
        TRY(steps_refuse_root(path));
    struct listing l = {.path = path, .stats = r->stats};
    if (count < 0 || hf_open(&l.weights, path) < 0)
        return -1;
    hf_say_unread(&l.weights);
    open_extras(&l);
    int rc = open_all(&l.weights);
    if (rc == 0 && l.has_optimizer)
        rc = open_all(&l.optimizer);
    if (rc == 0)
        rc = print_listing(&l, r, out);
    close_listing(&l);
    return rc;
}
