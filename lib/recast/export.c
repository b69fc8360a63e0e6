/* SPDX-License-Identifier: MIT */
#include "recast/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "model/edit.h"
#include "recast/origin.h"
#include "tensors/source.h"

struct exporting {
    const struct export_request *r;
    struct origin from;
    struct draft draft;
    int masters; /* tensors that are taken from the optimizer */
};

static enum number wanted(const struct exporting *x, const struct tensor *t, enum number is)
{
    if (!x->r->dtype || !t->trained)
        return is;
    return strcmp(x->r->dtype, "f32") == 0 ? NUMBER_F32 : NUMBER_BF16;
}

/* The tensor's numbers and what they are to become: the weights or, to f32, what the optimizer has of them. */
static int numbers_of(struct exporting *x, const struct tensor *t, struct piece *p, enum number *to)
{
    const char *file;
    struct piece master;
    TRY(origin_piece(&x->from, t, WEIGHTS, p, &file));
    *to = wanted(x, t, p->from);
    if (!x->from.step || *to != NUMBER_F32 || p->from == NUMBER_F32)
        return 0;
    int has = origin_piece(&x->from, t, STATE_MASTER, &master, &file);
    if (has > 0) {
        *p = master;
        x->masters++;
    }
    return has < 0 ? -1 : 0;
}

static int add_alone(struct exporting *x, const struct tensor *t)
{
    struct piece p;
    enum number to;
    char name[128], file[48];
    int64_t shape[3];
    TRY(numbers_of(x, t, &p, &to));
    snprintf(file, sizeof file, t->expert >= 0 ? "expert-%03d.safetensors" : "dense.safetensors", t->expert);
    int dims = tensor_shape(t, shape);
    made_add(draft_tensor(&x->draft, draft_file(&x->draft, file), tensor_name(&x->from.model, t, name), to,
                          dims, shape),
             p);
    return 0;
}

/* From tensor `at` on, expert 0's gate: all experts of the layer, each gate, up, down. Into gate_up (kinds 0
 * and 1) or down. */
static int add_fused(struct exporting *x, int at, bool down)
{
    const struct tensor *first = &x->from.inventory.tensors[at + (down ? 2 : 0)];
    struct made_tensor *m = NULL;
    char name[128];
    int64_t row, rows, experts = x->from.model.experts;
    source_fused_name(&x->from.model, first, &row, &rows, name);
    for (int64_t e = 0; e < experts; e++)
        for (int k = down ? 2 : 0; k < (down ? 3 : 2); k++) {
            struct piece p;
            enum number to;
            TRY(numbers_of(x, &x->from.inventory.tensors[at + 3 * e + k], &p, &to));
            if (!m)
                m = draft_tensor(&x->draft, draft_file(&x->draft, SINGLE_FILE), name, to, 3,
                                 (int64_t[]){experts, rows, first->cols});
            if (to != m->to)
                return error(STATUS_USAGE, "%s: '%s' would be of two dtypes: say which with --dtype",
                             x->from.path, name);
            made_add(m, p);
        }
    return 0;
}

static int draft_all(struct exporting *x)
{
    const struct inventory *v = &x->from.inventory;
    bool fused = x->r->form == FORM_FUSED;
    for (int i = 0; i < v->count; i++) {
        const struct tensor *t = &v->tensors[i];
        if (!fused || t->expert < 0) {
            TRY(add_alone(x, t));
        } else if (t->expert == 0 && t->kind == T_EXPERT_GATE) {
            TRY(add_fused(x, i, false));
            TRY(add_fused(x, i, true));
        }
    }
    if (x->r->form != FORM_EXPERTS)
        draft_shard(&x->draft, x->r->shard_bytes ? x->r->shard_bytes : SHARD_BYTES);
    if (x->masters)
        notice("%d tensor%s %s taken from the optimizer, in f32", x->masters, plural(x->masters),
               x->masters == 1 ? "is" : "are");
    return 0;
}

static int write_all(struct exporting *x)
{
    const struct model *m = &x->from.model;
    const char *dtype = x->r->dtype;
    char *config =
        !dtype ? xstrdup(m->source) : config_with_dtype(m, strcmp(dtype, "f32") == 0 ? "float32" : "bfloat16");
    if (!config)
        return -1;
    int rc = origin_write_like(&x->from, x->r->out, config, &x->draft,
                               x->r->form == FORM_EXPERTS ? "importing" : "exporting");
    free(config);
    return rc;
}

int export_dir(const struct export_request *r, struct exported *done)
{
    struct exporting x = {.r = r};
    TRY(origin_open(&x.from, r->dir, true));
    int rc = draft_all(&x);
    if (rc == 0)
        rc = write_all(&x);
    *done = (struct exported){x.draft.file_count, x.draft.count, draft_bytes(&x.draft)};
    draft_release(&x.draft);
    origin_release(&x.from);
    return rc;
}
