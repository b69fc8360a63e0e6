/* SPDX-License-Identifier: MIT */
#include "ckpt/shares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "model/inventory.h"
#include "plan/states.h"
#include "tensors/source.h"

void dtypes_add(char list[static DTYPES_ROOM], const char *dtype)
{
    const char *seen = strstr(list, dtype);
    size_t n = strlen(dtype), have = strlen(list);
    bool known = seen && (seen == list || seen[-1] == ' ') && (seen[n] == ' ' || !seen[n]);
    if (!known && have + n + 2 < DTYPES_ROOM)
        snprintf(list + have, DTYPES_ROOM - have, "%s%s", have ? " " : "", dtype);
}

/* ---- whose a name is ---- */

enum { EVERY = -2 }; /* expert: all of the layer's, one after the other */

/* A tensor's name up to its last dot: what a quantizer adds to a weight begins alike. */
struct share_module {
    char *name;
    int layer, expert;
};

struct sharing {
    const struct model *m;
    struct share_module *modules; /* sorted by name */
    int count;
    struct share *all; /* the model's, then for each layer its own and its experts' */
    struct shares *out;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct share_module *)a)->name, ((const struct share_module *)b)->name);
}

static void add_module(struct sharing *s, const char *name, int layer, int expert)
{
    const char *dot = strrchr(name, '.');
    s->modules[s->count++] =
        (struct share_module){xasprintf("%.*s", (int)(dot ? dot - name : 0), name), layer, expert};
}

static int list_modules(struct sharing *s)
{
    struct inventory v;
    char name[128];
    int64_t row, rows;
    TRY(inventory_init(&v, s->m));
    s->modules = xcalloc(2 * (int64_t)v.count, sizeof *s->modules);
    for (int i = 0; i < v.count; i++) {
        const struct tensor *t = &v.tensors[i];
        add_module(s, tensor_name(s->m, t, name), t->layer, t->stack ? EVERY : t->expert);
        if (t->expert == 0)
            add_module(s, source_fused_name(s->m, t, &row, &rows, name), t->layer, EVERY);
    }
    inventory_release(&v);
    qsort(s->modules, s->count, sizeof *s->modules, by_name);
    return 0;
}

/* NAME, NAME_scale and the like, or (state) a state of the optimizer of that. */
static const struct share_module *module_of(const struct sharing *s, const char *name, bool state)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", name);
    for (int i = 0; i < (state ? 2 : 1); i++) {
        char *dot = strrchr(copy, '.');
        if (dot)
            *dot = '\0';
    }
    struct share_module key = {.name = copy};
    return bsearch(&key, s->modules, s->count, sizeof *s->modules, by_name);
}

static struct share *share_of(const struct sharing *s, int layer, int expert)
{
    return &s->all[layer < 0 ? 0 : 1 + layer * (1 + s->m->experts) + 1 + expert];
}

/* ---- tensors ---- */

static int add_figures(struct share *x, struct hf_dir *d, int file, const struct st_tensor *part)
{
    struct tensor_stats s;
    TRY(tensor_stats(&s, d, file, part));
    x->figures = (struct tensor_stats){.known = s.known && (x->figures.known || x->tensors == 1),
                                       .norm = hypot(x->figures.norm, s.norm),
                                       .max_abs = fmax(x->figures.max_abs, s.max_abs),
                                       .odd = x->figures.odd + s.odd};
    return 0;
}

/* part: of the tensor, its own. */
static int add_part(struct share *x, struct hf_dir *d, int file, const struct st_tensor *part, bool state,
                    bool stats)
{
    if (state) {
        x->state_bytes += part->end - part->begin;
        return 0;
    }
    x->tensors++;
    x->bytes += part->end - part->begin;
    dtypes_add(x->dtypes, part->dtype);
    return stats ? add_figures(x, d, file, part) : 0;
}

static int add_tensor(struct sharing *s, struct hf_dir *d, int file, const struct st_tensor *t, bool state,
                      bool stats)
{
    const struct share_module *module = module_of(s, t->name, state);
    int64_t experts = s->m->experts;
    if (!module) {
        s->out->strangers++;
        return 0;
    }
    bool shared = module->expert == EVERY && t->dims > 0 && t->shape[0] == experts;
    if (!shared)
        return add_part(share_of(s, module->layer, max64(module->expert, -1)), d, file, t, state, stats);
    for (int64_t e = 0; e < experts; e++) {
        struct st_tensor part = *t;
        int64_t each = (t->end - t->begin) / experts;
        part.begin = t->begin + e * each;
        part.end = part.begin + each;
        TRY(add_part(share_of(s, module->layer, (int)e), d, file, &part, state, stats));
    }
    return 0;
}

static int add_dir(struct sharing *s, struct hf_dir *d, bool state, bool stats)
{
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = hf_file(d, i);
        if (!f)
            return -1;
        for (int k = 0; k < f->count; k++)
            TRY(add_tensor(s, d, i, &f->tensors[k], state, stats));
    }
    return 0;
}

/* ---- all ---- */

static void keep_used(struct shares *out, const struct share *all, int64_t count)
{
    out->list = xcalloc(count, sizeof *out->list);
    for (int64_t i = 0; i < count; i++)
        if (all[i].tensors)
            out->list[out->count++] = all[i];
}

int shares_count(struct shares *out, const struct model *m, struct hf_dir *weights, struct hf_dir *optimizer,
                 bool stats)
{
    struct sharing s = {.m = m, .out = out};
    int64_t count = 1 + m->layers * (1 + m->experts);
    *out = (struct shares){0};
    TRY(list_modules(&s));
    s.all = xcalloc(count, sizeof *s.all);
    s.all[0] = (struct share){.layer = -1, .expert = -1};
    for (int64_t i = 1; i < count; i++)
        s.all[i] = (struct share){.layer = (int)((i - 1) / (1 + m->experts)),
                                  .expert = (int)((i - 1) % (1 + m->experts)) - 1};
    int rc = add_dir(&s, weights, false, stats);
    if (rc == 0 && optimizer)
        rc = add_dir(&s, optimizer, true, stats);
    if (rc == 0)
        keep_used(out, s.all, count);
    for (int i = 0; i < s.count; i++)
        free(s.modules[i].name);
    free(s.modules);
    free(s.all);
    return rc;
}

void shares_release(struct shares *s)
{
    free(s->list);
    *s = (struct shares){0};
}
