/* SPDX-License-Identifier: MIT */
/* A request becomes a plan: strategy, model, axes, machine, numbers of the run, rules, then everything that
 * follows from them. */
#include "choose/make.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/words.h"
#include "cost/cluster.h"
#include "cost/predict.h"
#include "model/config.h"
#include "model/load.h"
#include "plan/axes.h"
#include "plan/fields.h"
#include "plan/layout.h"
#include "plan/rules.h"
#include "plan/schedule.h"
#include "plan/shard.h"
#include "plan/slots.h"
#include "plan/split.h"

/* Named strategies: a request that options override. */
static const struct strategy {
    const char *name;
    struct request request;
} strategies[] = {
    {"ep16-tp4-pp2", /* experts cut over tp: one replica of each */
     {.model = "moe-7b",
      .cluster = "ref-64g",
      .world = 128,
      .axes = {.tp = 4, .etp = 4, .ep = 16, .pp = 2, .vpp = 4},
      .batch = {.seq = 2048, .micro = 1, .global = 128},
      .routing = {.lambda = 1},
      .precision = "bf16",
      .recompute = "none",
      .zero = 1}},
    {"ep16-tp4-pp2-folded", /* whole experts, four replicas of each */
     {.model = "moe-7b",
      .cluster = "ref-64g",
      .world = 128,
      .axes = {.tp = 4, .etp = 1, .ep = 16, .pp = 2, .vpp = 4},
      .batch = {.seq = 2048, .micro = 1, .global = 128},
      .routing = {.lambda = 1},
      .precision = "bf16",
      .recompute = "none",
      .zero = 1}},
    {NULL},
};
const struct words strategy_words = WORDS(strategies);

static void fill(int64_t *value, int64_t from)
{
    if (*value == 0)
        *value = from;
}

static void fill_text(const char **value, const char *from)
{
    if (!*value)
        *value = from;
}

static int apply_strategy(struct request *r)
{
    char list[120];
    int i = word_index(&strategy_words, r->strategy);
    if (i < 0)
        return error(STATUS_USAGE, "no strategy '%s'; there are %s", r->strategy,
                     words_text(&strategy_words, list, sizeof list));
    const struct request *from = &strategies[i].request;
    fill_text(&r->model, from->model);
    fill_text(&r->cluster, from->cluster);
    fill(&r->world, from->world);
    fill(&r->axes.tp, from->axes.tp);
    fill(&r->axes.etp, from->axes.etp);
    fill(&r->axes.ep, from->axes.ep);
    fill(&r->axes.pp, from->axes.pp);
    fill(&r->axes.vpp, from->axes.vpp);
    fill(&r->batch.seq, from->batch.seq);
    fill(&r->batch.micro, from->batch.micro);
    fill(&r->batch.global, from->batch.global);
    if (!(r->routing.lambda > 0))
        r->routing.lambda = from->routing.lambda;
    fill_text(&r->precision, from->precision);
    fill_text(&r->recompute, from->recompute);
    if (r->zero < 0)
        r->zero = from->zero;
    return 0;
}

void request_like(struct request *r)
{
    const struct plan *like = r->like;
    if (!like)
        return;
    const struct training *t = &like->training;
    fill(&r->world, like->world);
    fill(&r->batch.seq, like->batch.seq);
    fill(&r->batch.global, like->batch.global);
    if (!(r->routing.lambda > 0))
        r->routing.lambda = like->routing.lambda;
    if (!(r->routing.capacity > 0))
        r->routing.capacity = like->routing.capacity;
    fill_text(&r->precision, word_at(&precision_words, (int)t->precision));
    fill_text(&r->scope, word_at(&scope_words, like->routing.local_scope));
    fill_text(&r->drop, word_at(&drop_words, like->routing.drop_position));
    fill_text(&r->dispatcher, word_at(&dispatcher_words, (int)t->dispatcher));
    fill_text(&r->overlap, word_at(&flag_words, t->overlap));
    fill(&r->bucket_bytes, t->bucket_bytes);
    fill_text(&r->grad_dtype, word_at(&type_words, t->grad_bf16));
    fill_text(&r->moment_dtype, word_at(&type_words, t->moment_bf16));
}

/* Of the request, or of the plan that it is like. */
static int take_model(struct plan *p, const struct request *r)
{
    if (r->model || !r->like)
        return model_load(&p->model, r->model);
    const struct model *m = &r->like->model;
    TRY(model_parse(&p->model, m->source, (size_t)m->source_bytes, "the plan's config"));
    memcpy(p->model.name, m->name, sizeof m->name);
    return 0;
}

static int take_machine(struct plan *p, const struct request *r)
{
    if (r->cluster || !r->like)
        return cluster_load(&p->machine, r->cluster, p->world);
    p->machine = r->like->machine;
    return 0;
}

static int set_axes(struct plan *p, const struct request *r)
{
    int64_t world = r->world;
    enum axis order[AXES];
    p->axes = r->axes;
    if (!*p->axes.order)
        strcpy(p->axes.order, DEFAULT_ORDER);
    if (order_parse(p->axes.order, order) < 0 || axes_derive(&p->axes, &world) < 0)
        return -1;
    p->world = (int)world;
    return 0;
}

static void set_batch(struct plan *p, const struct request *r)
{
    struct batch *b = &p->batch;
    const struct axes *a = &p->axes;
    *b = r->batch;
    fill(&b->seq, p->model.max_positions ? min64(p->model.max_positions, 2048) : 512);
    fill(&b->micro, 1);
    fill(&b->global, b->micro * a->dp * (a->pp > 1 ? 4 * a->pp : 1)); /* a bubble of a fifth at most */
    b->microbatches = b->global / (b->micro * a->dp);
}

static int set_words(struct plan *p, const struct request *r)
{
    const struct {
        const char *option;
        const struct record_fields *record;
        const char *key, *word, *otherwise;
    } choice[] = {
        {"precision", &training_fields, "precision", r->precision, p->model.bf16 ? "bf16" : "f32"},
        {"recompute", &training_fields, "recompute", r->recompute, "none"},
        {"schedule", &training_fields, "schedule", r->schedule, schedules[schedule_default(p->axes.vpp)].name},
        {"dispatcher", &training_fields, "dispatcher", r->dispatcher, "alltoall"},
        {"overlap", &training_fields, "overlap", r->overlap, "off"},
        {"grad-dtype", &training_fields, "grad", r->grad_dtype, "f32"},
        {"moment-dtype", &training_fields, "moment", r->moment_dtype, "f32"},
        {"capacity-scope", &routing_fields, "scope", r->scope, "microbatch"},
        {"drop", &routing_fields, "drop", r->drop, "prob"},
    };
    if (!r->precision && *p->model.other_dtype)
        return error(STATUS_USAGE, "the config's dtype is '%s', in which no plan computes: choose --precision",
                     p->model.other_dtype);
    p->training.zero = r->zero < 0 ? 1 : (int)r->zero;
    p->training.bucket_bytes = r->bucket_bytes;
    for (size_t i = 0; i < sizeof choice / sizeof *choice; i++) {
        const char *word = choice[i].word ? choice[i].word : choice[i].otherwise;
        if (!field_set_word(field_find(choice[i].record, choice[i].key), p, word))
            return error(STATUS_USAGE, "no %s '%s'", choice[i].option, word);
    }
    return 0;
}

static void say_what_is_planned(const struct model *m)
{
    if (*m->wrapped)
        notice("%s: only the text part of this %s is planned, as a model of %s", m->name, m->wrapped,
               model_family(m)->type);
    if (*m->quantised)
        notice("%s: its weights are quantised (%s); what is planned is the model before that", m->name,
               m->quantised);
}

int plan_start(struct plan *p, struct request *r)
{
    *p = (struct plan){0};
    if (r->strategy && apply_strategy(r) < 0)
        return -1;
    request_like(r);
    if (!r->model && !r->like)
        return error(STATUS_USAGE, "no model: name one with --model");
    if (take_model(p, r) < 0 || set_axes(p, r) < 0 || take_machine(p, r) < 0)
        return -1;
    say_what_is_planned(&p->model);
    p->routing = r->routing;
    if (!(p->routing.lambda > 0))
        p->routing.lambda = 1.5;
    set_batch(p, r);
    return set_words(p, r);
}

int plan_finish(struct plan *p, const char *split, const char *made_by)
{
    bucket_resolve(p);
    if (shape_legal(p) < 0 || split_make(p, split) < 0 || inventory_init(&p->inventory, &p->model) < 0)
        return -1;
    layout_make(p);
    slots_set_even(p);
    p->made_by = made_by ? xstrdup(made_by) : NULL;
    schedule_make(p);
    return plan_predict(p);
}

int plan_make(struct plan *p, const struct request *asked)
{
    struct request r = *asked;
    if (plan_start(p, &r) == 0 && plan_finish(p, r.split, r.made_by) == 0)
        return 0;
    plan_release(p);
    return -1;
}
