/* SPDX-License-Identifier: MIT */
#include "ckpt/verify.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "ckpt/map.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "ckpt/sums.h"
#include "ckpt/whole.h"
#include "model/load.h"
#include "tensors/source.h"

static void recorded(struct verified *v)
{
    problem(&v->problems, "%s", error_text());
}

/* ---- files ---- */

/* Whether the manifest lists a file in this folder. */
static bool lists_in(const struct manifest *m, const char *folder)
{
    size_t n = strlen(folder);
    for (int i = 0; i < m->count; i++)
        if (strncmp(m->files[i].name, folder, n) == 0 && m->files[i].name[n] == '/')
            return true;
    return false;
}

/* What lies in the directory and the manifest does not know. */
static void find_unlisted(struct verified *v, const struct manifest *m, const char *dir, const char *prefix)
{
    DIR *d = opendir(dir);
    if (!d) {
        problem(&v->problems, "cannot open '%s': %s", dir, strerror(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *path = path_join(dir, e->d_name), *name = xasprintf("%s%s", prefix, e->d_name);
        if (is_dir(path) && lists_in(m, name)) {
            char *folder = xasprintf("%s/", name);
            find_unlisted(v, m, path, folder);
            free(folder);
        } else if (is_dir(path)) {
            problem(&v->problems, "%s: a directory that does not belong here", path);
        } else if (strcmp(name, MANIFEST_FILE) != 0 && !manifest_find(m, name)) {
            problem(&v->problems, "%s: a file that the manifest does not list", path);
        }
        free(path);
        free(name);
    }
    closedir(d);
}

/* ---- tensors ---- */

/* Every tensor of the file must be where the index says, and nowhere else. */
static void check_indexed(struct verified *v, struct hf_dir *d, int file)
{
    const struct st_file *f = hf_file(d, file);
    if (!f) {
        recorded(v);
        return;
    }
    v->tensors += f->count;
    for (int i = 0; i < f->count; i++) {
        int where;
        bool failed;
        const struct st_tensor *t = hf_find(d, f->tensors[i].name, &where, &failed);
        if (!t && failed)
            recorded(v);
        else if (!t)
            problem(&v->problems, "%s: tensor '%s' is not in the index", f->path, f->tensors[i].name);
        else if (where != file)
            problem(&v->problems, "%s: tensor '%s' is in '%s' too", f->path, f->tensors[i].name,
                    d->files[where].name);
    }
}

static bool has_fused(const struct hf_dir *d, const struct model *m, const struct tensor *t)
{
    char name[128];
    int64_t row, rows;
    return t->expert >= 0 && hf_has(d, source_fused_name(m, t, &row, &rows, name));
}

/* The model's tensors, each once and of its shape. */
static void check_weights(struct verified *v, struct hf_dir *d, const struct model *m,
                          const struct inventory *inv)
{
    for (int f = 0; f < d->file_count; f++)
        check_indexed(v, d, f);
    for (int i = 0; i < inv->count; i++) {
        struct stored at;
        char name[128];
        if (source_find(d, m, &inv->tensors[i], &at) < 0)
            recorded(v);
        else if (hf_has(d, tensor_name(m, &inv->tensors[i], name)) && has_fused(d, m, &inv->tensors[i]))
            problem(&v->problems, "%s: tensor '%s' is there twice, alone and fused", d->path, name);
    }
    if (source_extras(d, m, inv) < 0)
        recorded(v);
}

static void check_state(struct verified *v, const struct st_file *f, const struct model *m,
                        const struct tensor *t, enum state s)
{
    char full[160], shape[192];
    const struct st_tensor *x = st_find(f, map_tensor_name(m, t, s, full));
    if (!x)
        problem(&v->problems, "%s: has no tensor '%s'", f->path, full);
    else if (strcmp(x->dtype, "F32") != 0 || x->dims != t->dims || x->shape[0] != t->rows ||
             (t->dims == 2 && x->shape[1] != t->cols))
        problem(&v->problems, "%s: tensor '%s' is %s %s, which the model does not say", f->path, full, x->dtype,
                st_shape_text(x, shape));
}

/* The optimizer's tensors: the states that it keeps of all that is trained, and nothing else. */
static void check_optimizer(struct verified *v, struct hf_dir *weights, const struct model *m,
                            const struct inventory *inv)
{
    struct hf_dir d = {.path = path_join(weights->path, OPTIMIZER_DIR)};
    int expected = 0, found = 0;
    for (int i = 0; i < inv->count; i++) {
        const struct tensor *t = &inv->tensors[i];
        struct stored at;
        if (!t->trained || source_find(weights, m, t, &at) < 0)
            continue;
        const struct st_file *f = hf_file(&d, hf_file_named(&d, weights->files[at.file].name));
        for (int s = 0; f && s < STATES; s++)
            if (optimizer_keeps(OPTIMIZER_ADAMW, s, at.number == NUMBER_F32)) {
                check_state(v, f, m, t, s);
                expected++;
            }
    }
    for (int i = 0; i < d.file_count; i++) {
        if (d.files[i].open)
            found += d.files[i].st.count;
        else if (!hf_file(&d, i))
            recorded(v);
    }
    if (found > expected)
        problem(&v->problems, "%s: holds %d tensors more than the model has", d.path, found - expected);
    v->tensors += found;
    hf_close(&d);
}

static void check_model(struct verified *v, const char *dir)
{
    struct model m;
    struct inventory inv;
    struct hf_dir d;
    if (model_load(&m, dir) < 0) {
        recorded(v);
        return;
    }
    if (inventory_init(&inv, &m) < 0) {
        recorded(v);
        model_release(&m);
        return;
    }
    if (hf_open(&d, dir) < 0) {
        recorded(v);
    } else {
        check_weights(v, &d, &m, &inv);
        if (v->step)
            check_optimizer(v, &d, &m, &inv);
        for (int i = 0; i < d.file_count && !v->step; i++)
            v->bytes += d.files[i].st.size;
        if (!v->step)
            v->files = d.file_count;
        hf_close(&d);
    }
    inventory_release(&inv);
    model_release(&m);
}

/* ---- all ---- */

/* Whether this is, or was meant to be, one of ours. */
static bool is_step(const char *path)
{
    static const char *const marks[] = {MANIFEST_FILE, STATE_FILE, PLAN_FILE, OPTIMIZER_DIR};
    if (step_meant(path))
        return true;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        char *mark = path_join(path, marks[i]);
        bool there = file_exists(mark);
        free(mark);
        if (there)
            return true;
    }
    return false;
}

/* -1 when the manifest is for a newer moekit: whole or not, this one cannot say. */
static int verify_step(struct verified *v, const char *path)
{
    struct manifest m;
    if (manifest_read(&m, path) < 0) {
        recorded(v);
        return m.refused ? -1 : 0;
    }
    v->files = m.count + 1;
    for (int i = 0; i < m.count; i++)
        v->bytes += m.files[i].bytes;
    whole_check(&v->problems, &m, path);
    find_unlisted(v, &m, path, "");
    sums_verify(&v->problems, &m, path, NULL);
    manifest_release(&m);
    return 0;
}

int verify_dir(struct verified *v, const char *path)
{
    struct stat st;
    *v = (struct verified){0};
    if (stat(path, &st) != 0)
        return error_errno("cannot open '%s'", path);
    if (!S_ISDIR(st.st_mode)) {
        problem(&v->problems, "'%s' is not a directory", path);
        return 0;
    }
    char *plain = xstrdup(path);
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = '\0';
    v->step = is_step(plain);
    int rc = v->step ? verify_step(v, plain) : 0;
    if (rc == 0)
        check_model(v, plain);
    else
        verified_release(v);
    free(plain);
    return rc;
}

void verified_release(struct verified *v)
{
    problems_release(&v->problems);
    *v = (struct verified){0};
}
