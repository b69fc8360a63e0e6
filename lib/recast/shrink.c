/* SPDX-License-Identifier: MIT */
#include "recast/shrink.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/outdir.h"
#include "choose/drops.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "model/config.h"
#include "model/edit.h"
#include "pack/experts.h"
#include "recast/origin.h"
#include "recast/replan.h"

struct shrinking {
    struct origin from;
    struct drops drops;
    struct draft draft;
    char *config; /* of the new model */
    struct model model;
    struct inventory inventory;
};

/* Has a row for each expert. */
static bool is_of_router(const struct tensor *t)
{
    return t->kind == T_ROUTER || t->kind == T_ROUTER_BIAS || t->kind == T_ROUTER_TRAINED_BIAS;
}

/* How many experts the old tensor has a part of; 1 where it goes or stays as one. */
static int64_t parts_of(const struct shrinking *s, const struct tensor *old)
{
    return is_of_router(old) || old->stack ? s->from.model.experts : 1;
}

/* All of the old tensor or, of one that has a part for each expert, of those that stay. */
static void add_kept(const struct shrinking *s, struct made_tensor *m, const struct tensor *old, struct piece p)
{
    int64_t parts = parts_of(s, old), each = tensor_count(old) / parts;
    for (int64_t e = 0; e < parts; e++) {
        struct piece part = p;
        if (parts > 1 && drops_has(&s->drops, old->layer, e))
            continue;
        part.offset += e * each * number_bytes(p.from);
        part.count = each;
        made_add(m, part);
    }
}

/* The file that a step has the tensor in: the name of its old one, but for the number. */
static int file_of(struct shrinking *s, const struct tensor *t, int state)
{
    char name[80];
    snprintf(name, sizeof name, t->expert >= 0 ? "%sexpert-%03d.safetensors" : "%sdense.safetensors",
             state == WEIGHTS ? "" : OPTIMIZER_DIR "/", t->expert);
    return draft_file(&s->draft, name);
}

static int add_tensor(struct shrinking *s, const struct tensor *t, const struct tensor *old, int state)
{
    struct piece p;
    const char *file;
    char name[160];
    int64_t shape[3];
    int has = origin_piece(&s->from, old, state, &p, &file);
    if (has <= 0)
        return has;
    int dims = tensor_shape(t, shape);
    struct made_tensor *m = draft_tensor(&s->draft, file_of(s, t, state),
                                         map_tensor_name(&s->model, t, state, name), p.from, dims, shape);
    add_kept(s, m, old, p);
    return 0;
}

/* Both inventories are in one order, and the new one has nothing that the old one has not. */
static const struct tensor *next_kept(const struct shrinking *s, int *at)
{
    const struct inventory *v = &s->from.inventory;
    while (*at < v->count) {
        const struct tensor *t = &v->tensors[(*at)++];
        if (t->expert < 0 || !drops_has(&s->drops, t->layer, t->expert))
            return t;
    }
    return NULL;
}

static int draft_all(struct shrinking *s)
{
    for (int state = WEIGHTS; state < (s->from.step ? STATES : 0); state++) {
        int at = 0;
        for (int i = 0; i < s->inventory.count; i++) {
            const struct tensor *t = &s->inventory.tensors[i], *old = next_kept(s, &at);
            if (!old || old->kind != t->kind || old->layer != t->layer)
                return error(STATUS_USAGE, "%s: with fewer experts the model has other tensors", s->from.path);
            TRY(add_tensor(s, t, old, state));
        }
    }
    if (!s->from.step)
        draft_shard(&s->draft, SHARD_BYTES);
    return 0;
}

/* Those that the list names: "3,8-9,2:5". */
static int choose_drops(struct shrinking *s, const struct shrink_request *r)
{
    const struct model *m = &s->from.model;
    TRY(drops_init(&s->drops, m));
    struct expert_choice *c = experts_parse("--drop-experts", r->drop);
    if (!c)
        return -1;
    int rc = 0;
    if (!experts_within(c, m->layers, m->experts))
        rc = error(STATUS_USAGE,
                   "--drop-experts: '%s' names what is not there: the model has experts 0-%lld in %lld layers",
                   r->drop, (long long)m->experts - 1, (long long)m->layers);
    for (int l = 0; l < m->layers; l++)
        for (int64_t e = 0; m->moe[l] && e < m->experts; e++)
            s->drops.gone[l * m->experts + e] = experts_has(c, l, e);
    experts_free(c);
    return rc < 0 ? -1 : drops_even(&s->drops, m, r->loads);
}

static int open_all(struct shrinking *s, const struct shrink_request *r)
{
    TRY(origin_open(&s->from, r->dir, true));
    TRY(choose_drops(s, r));
    s->config = config_with_experts(&s->from.model, s->drops.kept);
    if (!s->config)
        return -1;
    TRY(model_parse(&s->model, s->config, strlen(s->config), "config.json with fewer experts"));
    TRY(inventory_init(&s->inventory, &s->model));
    return draft_all(s);
}

static void release(struct shrinking *s)
{
    inventory_release(&s->inventory);
    model_release(&s->model);
    draft_release(&s->draft);
    drops_release(&s->drops);
    if (s->from.path)
        origin_release(&s->from);
    free(s->config);
}

/* What a step has besides: recipe and line as they were, a plan for the new model. */
static int put_step(struct shrinking *s, const char *dir, struct manifest *m)
{
    size_t bytes;
    char *path = path_join(s->from.path, STATE_FILE), *state = file_read(path, MAX_STATE_BYTES, &bytes);
    int rc = state ? manifest_put(m, dir, STATE_FILE, state, bytes) : -1;
    free(state);
    free(path);
    char *plan = rc == 0 ? replan_text(s->from.path, dir, s->drops.kept, &bytes) : NULL;
    if (rc == 0)
        rc = plan ? manifest_put(m, dir, PLAN_FILE, plan, bytes) : -1;
    free(plan);
    return rc;
}

/* For outdir_fill(). */
static int put_all(void *with, const char *dir)
{
    struct shrinking *s = with;
    struct manifest m = {.step = s->from.at_step};
    char *optimizer = path_join(dir, OPTIMIZER_DIR);
    int rc = make_dirs(optimizer);
    if (rc == 0)
        rc = origin_put(&s->from, dir, s->config, &m);
    if (rc == 0)
        rc = put_step(s, dir, &m);
    if (rc == 0)
        rc = draft_write(&s->draft, dir, &m, "shrinking");
    char *text = manifest_text(&m);
    if (rc == 0)
        rc = manifest_put(NULL, dir, MANIFEST_FILE, text, strlen(text));
    if (rc == 0)
        rc = sync_dir(optimizer);
    if (rc == 0)
        rc = sync_dir(dir);
    free(text);
    free(optimizer);
    manifest_release(&m);
    return rc;
}

/* A name of a step says which. */
static int check_name(const struct shrinking *s, const char *target)
{
    char *whole = path_absolute(target), name[STEP_NAME];
    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--)
        whole[n - 1] = '\0';
    int64_t named = step_of(strrchr(whole, '/') + 1);
    free(whole);
    if (named < 0 || named == s->from.at_step)
        return 0;
    return error(STATUS_USAGE, "'%s' is the name of another step: this is '%s'", target,
                 step_name(s->from.at_step, name));
}

static int write_step(struct shrinking *s, const char *target)
{
    TRY(origin_apart(&s->from, target));
    TRY(check_name(s, target));
    return outdir_fill(target, put_all, s);
}

int shrink_dir(const struct shrink_request *r, struct shrunk *done)
{
    struct shrinking s = {0};
    int rc = open_all(&s, r);
    if (rc == 0 && !r->dry_run)
        rc = s.from.step ? write_step(&s, r->out)
                         : origin_write_like(&s.from, r->out, s.config, &s.draft, "shrinking");
    *done = (struct shrunk){s.drops.experts, s.drops.kept, draft_bytes(&s.draft), s.from.step};
    release(&s);
    return rc;
}
