/* SPDX-License-Identifier: MIT */
#include "recast/extract.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "ckpt/names.h"
#include "pack/experts.h"
#include "recast/origin.h"

struct extracting {
    const struct extract_request *r;
    struct origin from;
    struct draft draft;
    const char **files; /* [draft.count] which file of the step each is from, for its sum */
    char **names;       /* of the optimizer's files */
};

static void note_file(struct extracting *x, const char *file)
{
    x->files = xrealloc(x->files, (size_t)x->draft.count, sizeof *x->files);
    x->files[x->draft.count - 1] = file;
}

/* ---- experts ---- */

static int draft_experts(struct extracting *x)
{
    const struct inventory *v = &x->from.inventory;
    const struct model *m = &x->from.model;
    struct expert_choice *c = experts_parse("--expert", x->r->experts);
    int rc = c ? 0 : -1;
    if (rc == 0 && !experts_within(c, m->layers, m->experts))
        rc = error(STATUS_USAGE,
                   "--expert: '%s' names what is not there: the model has %lld experts in %lld layers",
                   x->r->experts, (long long)m->experts, (long long)m->layers);
    for (int i = 0; i < v->count && rc == 0; i++) {
        const struct tensor *t = &v->tensors[i];
        const char *file;
        char name[128];
        int64_t shape[3];
        struct piece p;
        if (t->stack)
            rc = error(STATUS_USAGE, "%s: has all experts of a layer in one tensor: extract that with --tensor",
                       x->r->dir);
        if (t->expert < 0 || !experts_has(c, t->layer, t->expert) || rc < 0)
            continue;
        rc = origin_piece(&x->from, t, WEIGHTS, &p, &file) < 0 ? -1 : 0;
        if (rc == 0) {
            int dims = tensor_shape(t, shape);
            made_add(draft_tensor(&x->draft, 0, tensor_name(m, t, name), p.from, dims, shape), p);
            note_file(x, file);
        }
    }
    experts_free(c);
    return rc;
}

/* ---- by name ---- */

static int draft_named(struct extracting *x, struct hf_dir *d, int file, const char *where)
{
    const struct st_file *f = hf_file(d, file);
    if (!f)
        return -1;
    for (int i = 0; i < f->count; i++) {
        const struct st_tensor *t = &f->tensors[i];
        enum number n = number_of(t->dtype);
        if (strcmp(t->name, x->r->tensor) != 0 && fnmatch(x->r->tensor, t->name, 0) != 0)
            continue;
        if (n == NUMBER_OTHER)
            return error(STATUS_USAGE, "%s: tensor '%s' is %s, not F32, BF16 or F16", f->path, t->name,
                         t->dtype);
        if (t->dims > 3)
            return error(STATUS_USAGE, "%s: tensor '%s' has more than three dimensions", f->path, t->name);
        made_add(draft_tensor(&x->draft, 0, t->name, n, t->dims, t->shape),
                 (struct piece){d, file, n, t->begin, (t->end - t->begin) / number_bytes(n), 0});
        note_file(x, where);
    }
    return 0;
}

static int draft_pattern(struct extracting *x)
{
    int files = x->from.weights.file_count;
    for (int i = 0; i < files; i++)
        TRY(draft_named(x, &x->from.weights, i, x->from.weights.files[i].name));
    if (!x->from.step)
        return 0;
    x->names = xcalloc(files + 1, sizeof *x->names);
    for (int i = 0; i < files; i++) {
        const char *name = x->from.weights.files[i].name;
        x->names[i] = path_join(OPTIMIZER_DIR, name);
        TRY(draft_named(x, &x->from.optimizer, hf_file_named(&x->from.optimizer, name), x->names[i]));
    }
    return 0;
}

/* ---- all ---- */

static int check_sums(const struct extracting *x)
{
    struct manifest m;
    int rc = 0;
    if (!x->from.step)
        return 0;
    TRY(manifest_read(&m, x->r->dir));
    for (int i = 0; i < x->draft.count && rc == 0; i++) {
        const struct made_tensor *t = &x->draft.list[i];
        const struct manifest_file *f = manifest_find(&m, x->files[i]);
        const struct manifest_tensor *sum = f ? manifest_tensor(f, t->name) : NULL;
        if (!sum || sum->crc32 != t->crc32)
            rc = error(STATUS_USAGE, "%s/%s: tensor '%s' is damaged: its sum is not the manifest's", x->r->dir,
                       x->files[i], t->name);
    }
    manifest_release(&m);
    return rc;
}

static int write_all(struct extracting *x)
{
    struct output out;
    if (!x->draft.count)
        return error(STATUS_USAGE, "%s: has no tensor '%s'", x->r->dir,
                     x->r->tensor ? x->r->tensor : x->r->experts);
    if (x->r->out && strcmp(x->r->out, "-") != 0)
        TRY(origin_apart(&x->from, x->r->out));
    TRY(output_open(&out, x->r->out));
    int rc = draft_write_stream(&x->draft, out.stream, x->r->out ? x->r->out : "standard output", "extracting");
    if (rc == 0)
        rc = check_sums(x);
    if (rc == 0)
        return output_commit(&out);
    output_abandon(&out);
    return rc;
}

int extract_tensors(const struct extract_request *r, int *tensors, int64_t *bytes)
{
    struct extracting x = {.r = r};
    TRY(origin_open(&x.from, r->dir, false));
    draft_file(&x.draft, SINGLE_FILE);
    int rc = r->experts ? draft_experts(&x) : draft_pattern(&x);
    if (rc == 0)
        rc = write_all(&x);
    *tensors = x.draft.count;
    *bytes = draft_bytes(&x.draft);
    for (int i = 0; x.names && i < x.from.weights.file_count; i++)
        free(x.names[i]);
    free(x.names);
    free(x.files);
    draft_release(&x.draft);
    origin_release(&x.from);
    return rc;
}
