/* SPDX-License-Identifier: MIT */
#include "recast/merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/compare.h"
#include "model/config.h"
#include "model/edit.h"
#include "recast/origin.h"

struct merging {
    struct origin *from;
    int count;
    struct draft draft;
    char *config;
    struct model model;
    struct inventory inventory;
};

static int one_shape(const struct model *a, const struct model *b, const char *x, const char *y)
{
    struct model_figure f[MODEL_FIGURES];
    int count = model_figures(a, b, f);
    for (int i = 0; i < count; i++)
        if (f[i].kind != FIGURE_TRAINING && strcmp(f[i].a, f[i].b) != 0)
            return error(STATUS_USAGE, "%s and %s are not of one shape: %s is %s and %s", x, y, f[i].key,
                         f[i].a, f[i].b);
    return 0;
}

static int open_all(struct merging *k, char *const *dirs, int count)
{
    k->from = xcalloc((size_t)count, sizeof *k->from);
    for (int i = 0; i < count; i++) {
        TRY(origin_open(&k->from[i], dirs[i], true));
        k->count++;
        TRY(one_shape(&k->from[0].model, &k->from[i].model, dirs[0], dirs[i]));
    }
    const struct model *m = &k->from[0].model;
    if (!m->moe_layers)
        return error(STATUS_USAGE, "%s: is dense: it has no experts ('moe-ckpt upcycle' makes some)", dirs[0]);
    if (m->groups > 1)
        return error(STATUS_USAGE, "%s: routes to groups of experts, which those of several models are not",
                     dirs[0]);
    k->config = config_with_experts(m, m->experts * count);
    if (!k->config)
        return -1;
    TRY(model_parse(&k->model, k->config, strlen(k->config), "config.json with all experts"));
    return inventory_init(&k->inventory, &k->model);
}

/* One after the other: routers, stacks. */
static int add_all(struct merging *k, struct made_tensor *m, const struct tensor *old)
{
    for (int i = 0; i < k->count; i++) {
        struct piece p;
        const char *file;
        TRY(origin_piece(&k->from[i], old, WEIGHTS, &p, &file));
        if (p.from != m->to)
            return error(STATUS_USAGE, "tensor '%s' is not of one dtype in %s and %s", m->name, k->from[0].path,
                         k->from[i].path);
        made_add(m, p);
    }
    return 0;
}

static int add_mean(struct merging *k, struct made_tensor *m, const struct tensor *old)
{
    struct piece p;
    const char *file;
    TRY(origin_piece(&k->from[0], old, WEIGHTS, &p, &file));
    p.others = xcalloc((size_t)k->count, sizeof *p.others);
    p.other_count = k->count - 1;
    made_add(m, p);
    for (int i = 1; i < k->count; i++)
        TRY(origin_piece(&k->from[i], old, WEIGHTS, &m->pieces[0].others[i - 1], &file));
    return 0;
}

/* t: of the merged model; old: what it is in each of them; from: whose expert it is. */
static int add_tensor(struct merging *k, const struct tensor *t, const struct tensor *old, int from)
{
    struct piece p;
    const char *file;
    char name[128];
    int64_t shape[3];
    TRY(origin_piece(&k->from[from], old, WEIGHTS, &p, &file));
    int dims = tensor_shape(t, shape);
    struct made_tensor *m = draft_tensor(&k->draft, draft_file(&k->draft, file),
                                         tensor_name(&k->model, t, name), p.from, dims, shape);
    if (t->expert >= 0)
        made_add(m, p);
    else if (tensor_count(t) != tensor_count(old))
        return add_all(k, m, old);
    else
        return add_mean(k, m, old);
    return 0;
}

/* Both inventories are in one order; where the old one has a block of 3·E experts' tensors, the new one has as
 * many for each model. */
static int draft_all(struct merging *k)
{
    const struct inventory *v = &k->from[0].inventory, *new = &k->inventory;
    int64_t experts = k->from[0].model.experts, all = k->model.experts;
    int at = 0;
    for (int i = 0; i < new->count; i++) {
        const struct tensor *t = &new->tensors[i];
        int old = t->expert < 0 ? at : at + 3 * (int)(t->expert % experts) + (int)t->kind - (int)T_EXPERT_GATE;
        TRY(add_tensor(k, t, &v->tensors[old], t->expert < 0 ? 0 : (int)(t->expert / experts)));
        if (t->expert < 0)
            at++;
        else if (t->expert == all - 1 && t->kind == T_EXPERT_DOWN)
            at += 3 * (int)experts;
    }
    draft_shard(&k->draft, SHARD_BYTES);
    return 0;
}

int merge_dirs(char *const *dirs, int count, const char *out, int64_t *experts)
{
    struct merging k = {0};
    int rc = open_all(&k, dirs, count);
    for (int i = 0; i < count && rc == 0; i++)
        rc = origin_apart(&k.from[i], out);
    if (rc == 0)
        rc = draft_all(&k);
    if (rc == 0)
        rc = origin_write_like(&k.from[0], out, k.config, &k.draft, "merging");
    *experts = k.model.experts;
    draft_release(&k.draft);
    inventory_release(&k.inventory);
    model_release(&k.model);
    for (int i = 0; i < k.count; i++)
        origin_release(&k.from[i]);
    free(k.from);
    free(k.config);
    return rc;
}
