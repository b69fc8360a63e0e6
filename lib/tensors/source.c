/* SPDX-License-Identifier: MIT */
#include "tensors/source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"

char *source_fused_name(const struct model *m, const struct tensor *t, int64_t *row, int64_t *rows,
                        char buf[static 128])
{
    bool down = t->kind == T_EXPERT_DOWN;
    *rows = down ? t->rows : 2 * t->rows;
    *row = t->kind == T_EXPERT_UP ? t->rows : 0;
    snprintf(buf, 128, "model.layers.%d.mlp.experts.%s", t->layer, down ? "down_proj" : "gate_up_proj");
    return buf;
}

static int wrong_shape(const struct hf_dir *d, int file, const struct st_tensor *found, const char *expected)
{
    char shape[192];
    return error(STATUS_USAGE, "%s: tensor '%s' should have shape %s, not %s", d->files[file].st.path,
                 found->name, expected, st_shape_text(found, shape));
}

static int good_type(const struct hf_dir *d, int file, const struct st_tensor *found, struct stored *out)
{
    out->number = number_of(found->dtype);
    out->file = file;
    if (out->number == NUMBER_OTHER)
        return error(STATUS_USAGE, "%s: tensor '%s' is %s, not F32, BF16 or F16", d->files[file].st.path,
                     found->name, found->dtype);
    return 0;
}

static int find_fused(struct hf_dir *d, const struct model *m, const struct tensor *t, struct stored *out)
{
    char name[128], own[128], expected[96];
    int64_t row, rows;
    int file;
    bool failed;
    source_fused_name(m, t, &row, &rows, name);
    const struct st_tensor *f = hf_find(d, name, &file, &failed);
    if (failed)
        return -1;
    if (!f)
        return error(STATUS_USAGE, "%s: has no tensor '%s' (nor '%s')", d->path, tensor_name(m, t, own), name);
    if (f->dims != 3 || f->shape[0] != m->experts || f->shape[1] != rows || f->shape[2] != t->cols) {
        snprintf(expected, sizeof expected, "[%" PRId64 ",%" PRId64 ",%" PRId64 "]", m->experts, rows, t->cols);
        return wrong_shape(d, file, f, expected);
    }
    if (good_type(d, file, f, out) < 0)
        return -1;
    out->offset = f->begin + (t->expert * rows + row) * t->cols * number_bytes(out->number);
    return 0;
}

int source_find(struct hf_dir *d, const struct model *m, const struct tensor *t, struct stored *out)
{
    char name[128], expected[64];
    int file;
    bool failed;
    const struct st_tensor *f = hf_find(d, tensor_name(m, t, name), &file, &failed);
    if (failed)
        return -1;
    if (!f && t->expert >= 0)
        return find_fused(d, m, t, out);
    if (!f)
        return error(STATUS_USAGE, "%s: has no tensor '%s'", d->path, name);
    if (f->dims != t->dims || f->shape[0] != t->rows || (t->dims == 2 && f->shape[1] != t->cols)) {
        int n = snprintf(expected, sizeof expected, "[%" PRId64, t->rows);
        if (t->dims == 2)
            n += snprintf(expected + n, sizeof expected - n, ",%" PRId64, t->cols);
        snprintf(expected + n, sizeof expected - n, "]");
        return wrong_shape(d, file, f, expected);
    }
    out->offset = f->begin;
    return good_type(d, file, f, out);
}

bool source_tolerates(const struct model *m, const char *name)
{
    static const char inv_freq[] = "rotary_emb.inv_freq";
    size_t n = strlen(name), k = sizeof inv_freq - 1;
    if (n >= k && strcmp(name + n - k, inv_freq) == 0)
        return true;
    if (m->tied && strcmp(name, "lm_head.weight") == 0)
        return true;
    /* some are published with layers of multi-token prediction after the last; transformers ignores them too */
    int layer, end = 0;
    return model_family(m)->more_layers && sscanf(name, "model.layers.%d.%n", &layer, &end) == 1 && end &&
           layer >= m->layers;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names of all tensors of the model, the fused ones too. */
static char **known_names(const struct model *m, const struct inventory *v, int *count)
{
    char **names = xcalloc(2 * (size_t)v->count, sizeof *names), buf[128];
    *count = 0;
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        int64_t row, rows;
        names[(*count)++] = xstrdup(tensor_name(m, t, buf));
        if (t->expert == 0 && t->kind != T_EXPERT_UP)
            names[(*count)++] = xstrdup(source_fused_name(m, t, &row, &rows, buf));
    }
    qsort(names, *count, sizeof *names, text_order);
    return names;
}

int source_extras(const struct hf_dir *d, const struct model *m, const struct inventory *v)
{
    int count, rc = 0, ignored = 0;
    char **names = known_names(m, v, &count);
    for (int i = 0; i < d->name_count && rc == 0; i++) {
        const char *name = d->names[i].name;
        if (bsearch(&name, names, count, sizeof *names, text_order))
            continue;
        if (source_tolerates(m, name))
            ignored++;
        else
            rc = error(STATUS_USAGE, "%s/%s: tensor '%s' is not one of this model's", d->path,
                       d->files[d->names[i].file].name, name);
    }
    if (rc == 0 && ignored)
        verbose("%s: %d tensors that are not parameters of the model are left alone", d->path, ignored);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return rc;
}
