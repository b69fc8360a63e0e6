/* SPDX-License-Identifier: MIT */
#include "ckpt/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/lfs.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/words.h"
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
    struct folder f;
    if (folder_open(&f, dir) < 0) {
        recorded(v);
        return;
    }
    for (const char *found; (found = folder_next(&f));) {
        if (strcmp(found, ARCHIVE_FOLDER) == 0)
            continue;
        char *path = path_join(dir, found), *name = xasprintf("%s%s", prefix, found);
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
    if (folder_close(&f, 0) < 0)
        recorded(v);
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

/* Whether a quantizer stored this tensor in its own way: as others of the same module ("q_proj.weight_packed"),
 * or in a dtype whose shape is not the tensor's. */
static bool is_quantised(struct hf_dir *d, const struct model *m, const struct tensor *t)
{
    char name[128];
    int file;
    bool failed;
    const struct st_tensor *found = hf_find(d, tensor_name(m, t, name), &file, &failed);
    if (found || failed)
        return found && number_of(found->dtype) == NUMBER_OTHER;
    strrchr(name, '.')[1] = '\0';
    int i = hf_name_from(d, name);
    return i < d->name_count && strncmp(d->names[i].name, name, strlen(name)) == 0;
}

/* The model's tensors, each once and of its shape. */
static void check_weights(struct verified *v, struct hf_dir *d, const struct model *m,
                          const struct inventory *inv)
{
    for (int f = 0; f < d->file_count; f++)
        check_indexed(v, d, f);
    for (int i = 0; i < inv->count; i++) {
        const struct tensor *t = &inv->tensors[i];
        char name[128];
        if (*m->quantised && is_quantised(d, m, t))
            continue;
        if (source_has(d, m, t) < 0)
            recorded(v);
        else if (hf_has(d, tensor_name(m, t, name)) && has_fused(d, m, t))
            problem(&v->problems, "%s: tensor '%s' is there twice, alone and fused", d->path, name);
    }
    if (v->step && source_extras(d, m, inv) < 0)
        recorded(v);
    if (!v->step)
        source_say_strangers(d, m, inv);
}

static void check_state(struct verified *v, const struct st_file *f, const struct model *m,
                        const struct tensor *t, enum state s)
{
    char full[160], shape[192];
    const struct st_tensor *x = st_find(f, map_tensor_name(m, t, s, full));
    if (!x)
        problem(&v->problems, "%s: has no tensor '%s'", f->path, full);
    else if (strcmp(x->dtype, "F32") != 0 || !source_same_shape(x, t))
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
        problem(&v->problems, "%s: holds %d tensor%s more than the model has", d.path, found - expected,
                plural(found - expected));
    v->tensors += found;
    hf_close(&d);
}

/* A checkpoint's files of tensors are those that its index names, and the optimizer's of the same names. */
static void check_files(struct verified *v, const struct hf_dir *d, const struct manifest *m)
{
    size_t n = strlen(OPTIMIZER_DIR "/");
    for (int i = 0; i < m->count; i++) {
        const char *name = m->files[i].name;
        bool named = !m->files[i].tensors;
        for (int k = 0; k < d->file_count && !named; k++)
            named = strcmp(d->files[k].name, strncmp(name, OPTIMIZER_DIR "/", n) == 0 ? name + n : name) == 0;
        if (!named)
            problem(&v->problems, "%s/%s: a file of tensors that " INDEX_FILE " does not name", d->path, name);
    }
}

/* Which files transformers would take, and what is there beside them. */
static void check_choice(struct verified *v, const struct hf_dir *d)
{
    if (d->loose)
        problem(&v->problems,
                "%s: has neither " SINGLE_FILE " nor " INDEX_FILE
                ", without which transformers finds no weights",
                d->path);
    for (int i = 0; i < d->unread_count; i++)
        notice("%s/%s: nothing refers to it, and transformers does not read it", d->path, d->unread[i]);
}

/* Files beside the weights: JSON must be some, and nothing a pointer to what was not fetched. */
static void check_side_file(struct verified *v, const char *path)
{
    char start[LFS_BYTES];
    struct stat st;
    json_error_t bad;
    size_t got = 0;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (!f)
        return;
    got = fread(start, 1, sizeof start, f);
    if (lfs_pointer(start, got)) {
        lfs_error(path);
        recorded(v);
    } else if (ends_in(path, ".json")) {
        rewind(f);
        json_t *root = json_loadf(f, JSON_DECODE_ANY | JSON_ALLOW_NUL, &bad);
        if (!root)
            problem(&v->problems, "%s:%d:%d: %s", path, bad.line, bad.column, bad.text);
        json_decref(root);
    }
    fclose(f);
}

/* All of a Hugging Face directory that is read by other means than those above. */
static void check_side_files(struct verified *v, const char *dir)
{
    struct folder f;
    if (folder_open(&f, dir) < 0) {
        error_clear(); /* said already */
        return;
    }
    for (const char *name; (name = folder_next(&f));) {
        if (name[0] == '.' || ends_in(name, ".safetensors") || strcmp(name, CONFIG_FILE) == 0)
            continue;
        char *path = path_join(dir, name);
        check_side_file(v, path);
        free(path);
    }
    if (folder_close(&f, 0) < 0)
        recorded(v);
}

/* listed: of a step directory that has one; else NULL. */
static void check_model(struct verified *v, const char *dir, const struct manifest *listed)
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
        if (!v->step)
            check_choice(v, &d);
        if (v->step)
            check_optimizer(v, &d, &m, &inv);
        if (listed)
            check_files(v, &d, listed);
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

/* Whether the file begins as a JSON file of ours does: {"moekit": … */
static bool begins_as_ours(const char *dir, const char *name)
{
    char *path = path_join(dir, name), start[64] = "";
    FILE *f = fopen(path, "rb");
    if (f) {
        start[fread(start, 1, sizeof start - 1, f)] = '\0';
        fclose(f);
    }
    free(path);
    return strstr(start, "\"moekit\"");
}

bool is_step_dir(const char *path)
{
    char *plan = path_join(path, PLAN_FILE), *moments = path_join(path, OPTIMIZER_DIR "/dense.safetensors");
    bool ours = file_exists(plan) || file_exists(moments) || begins_as_ours(path, MANIFEST_FILE) ||
                begins_as_ours(path, STATE_FILE);
    free(plan);
    free(moments);
    return ours;
}

/* -1 when the manifest is for a newer moekit: whole or not, this one cannot say. */
static int verify_step(struct verified *v, const char *path)
{
    struct manifest m;
    if (manifest_read(&m, path) < 0) {
        recorded(v);
        if (m.refused)
            return -1;
        check_model(v, path, NULL);
        return 0;
    }
    v->files = m.count + 1;
    v->bytes = manifest_bytes(&m);
    whole_check(&v->problems, &m, path);
    find_unlisted(v, &m, path, "");
    sums_verify(&v->problems, &m, path);
    check_model(v, path, &m);
    manifest_release(&m);
    return 0;
}

static void verify_model(struct verified *v, const char *path)
{
    check_model(v, path, NULL);
    check_side_files(v, path);
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
    v->step = is_step_dir(plain);
    int rc = v->step ? verify_step(v, plain) : 0;
    if (!v->step && steps_refuse_root(plain) < 0)
        recorded(v);
    else if (!v->step)
        verify_model(v, plain);
    if (rc < 0)
        verified_release(v);
    free(plain);
    return rc;
}

void verified_release(struct verified *v)
{
    problems_release(&v->problems);
    *v = (struct verified){0};
}
