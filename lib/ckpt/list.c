/* SPDX-License-Identifier: MIT */
#include "ckpt/list.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/manifest.h"
#include "ckpt/stats.h"
#include "ckpt/steps.h"
#include "tensors/hfdir.h"

#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "model/load.h"
#include "model/size.h"
#include "plan/text.h"

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

/* Everything here is extra: a directory without them is listed all the same. */
static void open_extras(struct listing *l)
{
    char *config = path_join(l->path, CONFIG_FILE), *plan = path_join(l->path, PLAN_FILE);
    char *manifest = path_join(l->path, MANIFEST_FILE), *optimizer = path_join(l->path, OPTIMIZER_DIR);
    l->has_model = file_exists(config) && model_load(&l->model, config) == 0;
    l->has_plan = file_exists(plan) && plan_read(&l->plan, plan) == 0;
    l->has_manifest = file_exists(manifest) && manifest_read(&l->manifest, l->path) == 0;
    l->has_optimizer = is_dir(optimizer) && hf_open(&l->optimizer, optimizer) == 0;
    free(config);
    free(plan);
    free(manifest);
    free(optimizer);
    error_clear();
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

/* "F32", "BF16 F32": the dtypes of a file in order of appearance. */
static void dtypes_of(const struct st_file *f, char buf[static 80])
{
    buf[0] = '\0';
    for (int i = 0; i < f->count; i++) {
        const char *type = f->tensors[i].dtype, *seen = strstr(buf, type);
        size_t n = strlen(type), have = strlen(buf);
        bool known = seen && (seen == buf || seen[-1] == ' ') && (seen[n] == ' ' || !seen[n]);
        if (!known && have + n + 2 < 80)
            snprintf(buf + have, 80 - have, "%s%s", have ? " " : "", type);
    }
    if (!buf[0])
        snprintf(buf, 80, "-");
}

static void print_files(struct hf_dir *d, const char *prefix, int64_t *tensors, int64_t *bytes, FILE *out)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = &d->files[i].st;
        char types[80];
        dtypes_of(f, types);
        fprintf(out, "%9d  %15" PRId64 "  %-8s  %s%s\n", f->count, f->size, types, prefix, d->files[i].name);
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
    fprintf(out, "# %" PRId64 " tensors, %s\n", tensors, human_bytes((double)bytes, size));
}

/* "norm, largest, how many are not finite" of a tensor, as columns. */
static int print_stats(struct hf_dir *d, int file, const struct st_tensor *t, FILE *out)
{
    struct tensor_stats s;
    TRY(tensor_stats(&s, d, file, t));
    if (s.known)
        fprintf(out, "%-12.6g %-12.6g %6" PRId64 "  ", s.norm, s.max_abs, s.odd);
    else
        fprintf(out, "%-12s %-12s %6s  ", "-", "-", "-");
    return 0;
}

static int print_tensors(struct hf_dir *d, const char *prefix, bool stats, FILE *out)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = &d->files[i].st;
        for (int k = 0; k < f->count; k++) {
            char shape[192];
            if (stats)
                TRY(print_stats(d, i, &f->tensors[k], out));
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

/* ---- for scripts ---- */

static json_t *tensor_json(const struct st_tensor *t)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->dims; d++)
        json_array_append_new(shape, json_integer(t->shape[d]));
    return json_pack("{s:o, s:s, s:o, s:I}", "name", json_bytes(t->name), "dtype", t->dtype, "shape", shape,
                     "bytes", (json_int_t)(t->end - t->begin));
}

static int add_stats(json_t *o, struct hf_dir *d, int file, const struct st_tensor *t)
{
    struct tensor_stats s;
    TRY(tensor_stats(&s, d, file, t));
    json_object_set_new(o, "norm", s.known ? json_real(s.norm) : json_null());
    json_object_set_new(o, "max_abs", s.known ? json_real(s.max_abs) : json_null());
    json_object_set_new(o, "not_finite", s.known ? json_integer(s.odd) : json_null());
    return 0;
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
            if (stats)
                TRY(add_stats(one, d, i, &f->tensors[k]));
        }
    }
    return 0;
}

static int print_json(json_t *root, FILE *out)
{
    int rc = json_dumpf(root, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(root);
    return rc == 0 && !ferror(out) ? 0 : error_errno("cannot write the list");
}

static int listing_json(struct listing *l, FILE *out)
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
    json_object_set_new(root, "files", files);
    int rc = files_json(&l->weights, "", l->stats, files);
    if (rc == 0 && l->has_optimizer)
        rc = files_json(&l->optimizer, OPTIMIZER_DIR "/", l->stats, files);
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
    int64_t bytes = 0;
    int rc = manifest_read(&m, dir);
    *refused = m.refused;
    if (rc < 0)
        return -1;
    for (int i = 0; i < m.count; i++)
        bytes += m.files[i].bytes;
    manifest_release(&m);
    return bytes;
}

static int list_root(const char *root, const struct step_dir *steps, int count, int aside, enum list_form form,
                     FILE *out)
{
    json_t *list = json_array();
    if (form != LIST_JSON)
        fprintf(out, "#     step            bytes  directory\n");
    for (int i = count - 1; i >= 0; i--) {
        if (!steps[i].complete)
            continue;
        int64_t step = steps[i].step;
        char *dir = step_path(root, step);
        bool refused;
        int64_t bytes = step_bytes(dir, &refused);
        if (form == LIST_JSON)
            json_array_append_new(list, json_pack("{s:o, s:I, s:I}", "path", json_bytes(dir), "step",
                                                  (json_int_t)step, "bytes", (json_int_t)bytes));
        else if (bytes < 0)
            fprintf(out, "%10" PRId64 "  %15s  %s\n", step, refused ? "newer moekit" : "bad manifest", dir);
        else
            fprintf(out, "%10" PRId64 "  %15" PRId64 "  %s\n", step, bytes, dir);
        free(dir);
    }
    error_clear();
    if (form == LIST_JSON)
        return print_json(
            json_pack("{s:o, s:o, s:i}", "path", json_bytes(root), "steps", list, "set_aside", aside), out);
    if (aside)
        fprintf(out, "# %d set aside\n", aside);
    json_decref(list);
    return 0;
}

int list_dir(const char *path, enum list_form form, bool stats, FILE *out)
{
    struct step_dir *steps = NULL;
    if (!is_dir(path))
        return error(STATUS_USAGE, file_exists(path) ? "'%s' is not a directory" : "'%s' does not exist", path);
    int aside, count = steps_list(path, &steps, &aside), complete = 0;
    for (int i = 0; i < count; i++)
        complete += steps[i].complete;
    if (complete > 0 && form != LIST_TENSORS) {
        int rc = list_root(path, steps, count, aside, form, out);
        free(steps);
        return rc;
    }
    free(steps);
    struct listing l = {.path = path, .stats = stats};
    if (count < 0 || hf_open(&l.weights, path) < 0)
        return -1;
    hf_say_unread(&l.weights);
    open_extras(&l);
    int rc = open_all(&l.weights);
    if (rc == 0 && l.has_optimizer)
        rc = open_all(&l.optimizer);
    if (rc == 0 && form == LIST_FILES)
        print_table(&l, out);
    if (rc == 0 && form == LIST_TENSORS)
        rc = print_all_tensors(&l, out);
    if (rc == 0 && form == LIST_JSON)
        rc = listing_json(&l, out);
    close_listing(&l);
    return rc;
}
