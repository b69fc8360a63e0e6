/* SPDX-License-Identifier: MIT */
#include "tensors/source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/words.h"

char *source_fused_name(const struct model *m, const struct tensor *t, int64_t *row, int64_t *rows,
                        char buf[static 128])
{
    bool down = t->kind == T_EXPERT_DOWN;
    *rows = down ? t->rows : 2 * t->rows;
    *row = t->kind == T_EXPERT_UP ? t->rows : 0;
    snprintf(buf, 128, "model.layers.%d.mlp.experts.%s", t->layer, down ? "down_proj" : "gate_up_proj");
    return buf;
}

bool source_same_shape(const struct st_tensor *f, const struct tensor *t)
{
    int64_t shape[3];
    int dims = tensor_shape(t, shape);
    return f->dims == dims && memcmp(f->shape, shape, (size_t)dims * sizeof *shape) == 0;
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

static int find_fused(struct hf_dir *d, const struct model *m, const struct tensor *t, bool any_type,
                      struct stored *out)
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
    if (any_type)
        return 0;
    TRY(good_type(d, file, f, out));
    out->offset = f->begin + (t->expert * rows + row) * t->cols * number_bytes(out->number);
    return 0;
}

static int find(struct hf_dir *d, const struct model *m, const struct tensor *t, bool any_type,
                struct stored *out)
{
    char name[128];
    int file;
    bool failed;
    const struct st_tensor *f = hf_find(d, tensor_name(m, t, name), &file, &failed);
    if (failed)
        return -1;
    if (!f && t->expert >= 0)
        return find_fused(d, m, t, any_type, out);
    if (!f)
        return error(STATUS_USAGE, "%s: has no tensor '%s'", d->path, name);
    if (!source_same_shape(f, t))
        return wrong_shape(d, file, f, tensor_shape_text(t, name));
    if (any_type)
        return 0;
    out->offset = f->begin;
    return good_type(d, file, f, out);
}

int source_find(struct hf_dir *d, const struct model *m, const struct tensor *t, struct stored *out)
{
    return find(d, m, t, false, out);
}

int source_has(struct hf_dir *d, const struct model *m, const struct tensor *t)
{
    return find(d, m, t, true, NULL);
}

/* ---- names that are not the model's ---- */

/* Whether this name, which the inventory does not have, may be there all the same. */
static bool tolerated(const struct model *m, const char *name)
{
    if (ends_in(name, "rotary_emb.inv_freq"))
        return true;
    if (m->tied && strcmp(name, "lm_head.weight") == 0)
        return true;
    /* a shared expert that is 0 wide has tensors without elements */
    if (!m->shared_ffn && strstr(name, ".mlp.shared_expert"))
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

struct source_names source_names(const struct model *m, const struct inventory *v)
{
    char buf[128];
    struct source_names known = {.list = xcalloc(2 * (size_t)v->count, sizeof *known.list)};
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        int64_t row, rows;
        known.list[known.count++] = xstrdup(tensor_name(m, t, buf));
        if (t->expert == 0 && t->kind != T_EXPERT_UP)
            known.list[known.count++] = xstrdup(source_fused_name(m, t, &row, &rows, buf));
    }
    qsort(known.list, known.count, sizeof *known.list, text_order);
    return known;
}

void source_names_release(struct source_names *known)
{
    for (int i = 0; i < known->count; i++)
        free(known->list[i]);
    free(known->list);
    *known = (struct source_names){0};
}

static bool is_known(const struct source_names *known, const char *name)
{
    return bsearch(&name, known->list, known->count, sizeof *known->list, text_order);
}

/* A quantizer's part of a parameter, "….q_proj.weight_scale" beside "….q_proj.weight". */
static bool is_part(const struct source_names *known, const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *low = strrchr(name, '_'); /* "….gate_up_proj_blocks" beside "….gate_up_proj" */
    char *weight = xasprintf("%.*s.weight", (int)(dot ? dot - name : 0), name),
         *bare = xasprintf("%.*s", (int)(low ? low - name : 0), name);
    bool known_there = is_known(known, weight) || is_known(known, bare);
    free(weight);
    free(bare);
    return known_there;
}

const struct hf_name *source_stranger(const struct hf_dir *d, const struct model *m,
                                      const struct source_names *known, int *at)
{
    while (*at < d->name_count) {
        const struct hf_name *n = &d->names[(*at)++];
        if (!is_known(known, n->name) && !tolerated(m, n->name) && !(*m->quantised && is_part(known, n->name)))
            return n;
    }
    return NULL;
}

int source_extras(const struct hf_dir *d, const struct model *m, const struct inventory *v)
{
    int at = 0;
    struct source_names known = source_names(m, v);
    const struct hf_name *n = source_stranger(d, m, &known, &at);
    source_names_release(&known);
    return n ? error(STATUS_USAGE, "%s/%s: tensor '%s' is not one of this model's", d->path,
                     d->files[n->file].name, n->name)
             : 0;
}

void source_say_strangers(const struct hf_dir *d, const struct model *m, const struct inventory *v)
{
    struct source_names known = source_names(m, v);
    const struct hf_name *first = NULL, *n;
    int count = 0;
    for (int at = 0; (n = source_stranger(d, m, &known, &at)); count++)
        first = first ? first : n;
    if (count)
        notice("%s: %d tensor%s not the model's and not read, as in transformers: '%s'%s", d->path, count,
               count > 1 ? "s are" : " is", first->name, count > 1 ? ", …" : "");
    source_names_release(&known);
}
