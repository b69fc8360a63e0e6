/* SPDX-License-Identifier: MIT */
/* What ends a step: gradients summed over everyone who has a part of them, their norm, an update of this
 * rank's slice, weights gathered.
 *
 * ZeRO-1 (arXiv 1910.02054): what the optimizer keeps (plan/states.h) is cut over the replicas of a parameter:
 * dp for dense ones, edp for experts. */
#include "engine/optimizer.h"

#include <math.h>

#include "base/error.h"
#include "base/num.h"
#include "engine/buckets.h"

/* sum += Σ x². */
static void square(struct engine *e, const float *x, int64_t count, double *sum)
{
    e->be->total(e->s, &OP(total, .count = count, .x = x, .y = x, .scale = 1, .out = sum));
}

void gradients_square(struct engine *e)
{
    const struct shards *s = &e->shards;
    /* a norm that lacks an axis: only the first along it are counted in */
    if ((fault("norm-missing-pp") && e->at.pp) || (fault("norm-missing-tp") && e->at.tp) ||
        (fault("norm-missing-dp") && e->at.dp))
        return;
    for (int i = 0; i < s->count; i++) {
        const struct shard *h = &s->list[i];
        if (h->flat == FLAT_BUFFER || (!h->counted && !fault("norm-counts-copies")))
            continue;
        if (e->plan->training.zero == 0 && s->replica[h->flat] > 0)
            continue;
        /* neighbours in the list that are neighbours in memory make one run */
        int64_t begin = h->offset, end = begin + h->rows * h->cols;
        while (i + 1 < s->count && s->list[i + 1].flat == h->flat && s->list[i + 1].counted &&
               s->list[i + 1].offset == end) {
            i++;
            end += s->list[i].rows * s->list[i].cols;
        }
        for (struct slice x = {0}; shards_next(s, h->flat, begin, end, &x);)
            square(e, e->arena.grad[h->flat] + x.first, x.count, &e->arena.step->totals.square);
    }
}

int states_finite(struct engine *e, bool all, bool *finite)
{
    const struct shards *s = &e->shards;
    bool f32 = e->plan->training.precision == PRECISION_F32;
    double sum, *out = e->ws->scalar; /* squares of f32 do not overflow it */
    e->be->zero(e->s, out, sizeof sum);
    for (int f = 0; f <= FLAT_EXPERT; f++) {
        for (struct slice x = {0}; f32 && all && shards_next(s, f, 0, s->padded[f], &x);)
            square(e, (const float *)e->arena.weights[f] + x.first, x.count, out);
        for (int i = 0; i < STATES; i++)
            if (e->arena.state[i][f] && (all || !states[i].from_weights))
                square(e, e->arena.state[i][f], s->sliced[f], out);
    }
    TRY(e->be->download(e->s, &sum, out, sizeof sum));
    *finite = isfinite(sum);
    return 0;
}

/* Parameters in a row, and how they are to be updated: they decay, or do not, as a whole. */
struct span {
    int64_t count;
    void *weights;        /* of the engine's type */
    float *state[STATES]; /* NULL where the plan does not keep it */
    const float *grad;
    double decay;
};

static void adamw(struct engine *e, const struct span *s, const struct hyper *h)
{
    float *master = s->state[STATE_MASTER]; /* weights of f32 are the master themselves */
    e->be->adamw(e->s, &OP(adamw, .count = s->count, .master = master ? master : s->weights,
                           .param = master ? s->weights : NULL, .m = s->state[STATE_EXP_AVG],
                           .v = s->state[STATE_EXP_AVG_SQ], .grad = s->grad, .update = &e->arena.step->update,
                           .beta1 = (float)h->beta1, .beta2 = (float)h->beta2, .eps = (float)h->eps,
                           .decay = (float)s->decay, .type = e->type));
}

/* How each optimizer updates parameters; which states it needs is its row in plan/states.c. */
static void (*const update[OPTIMIZERS])(struct engine *e, const struct span *s, const struct hyper *h) = {
    [OPTIMIZER_ADAMW] = adamw,
};

/* Updates [begin,end) of a flat buffer, which lies in x, a slice of this rank's; `decay`, if it is to. */
static void update_range(struct engine *e, enum flat f, const struct slice *x, int64_t begin, int64_t end,
                         double decay, const struct hyper *h)
{
    const struct arena *a = &e->arena;
    if (end <= begin)
        return;
    struct span span = {.count = end - begin,
                        .weights = (char *)a->weights[f] + (size_t)begin * type_bytes(e->type),
                        .grad = a->grad[f] + begin,
                        .decay = decay};
    for (int i = 0; i < STATES; i++)
        span.state[i] = a->state[i][f] ? a->state[i][f] + x->place + begin - x->first : NULL;
    update[plan_optimizer(e->plan)](e, &span, h);
}

/* This rank's slice of bucket k: what decays, and then what does not. */
static void update_slice(struct engine *e, enum flat f, int64_t k, const void *of)
{
    const struct hyper *h = of;
    const struct shards *s = &e->shards;
    struct slice x = shards_slice(s, f, k);
    int64_t end = min64(x.first + x.count, s->elements[f]), decayed = min64(end, s->decayed[f]);
    if (fault("decay-by-slice") && x.first < decayed)
        decayed = end;
    update_range(e, f, &x, x.first, decayed, h->weight_decay, h);
    update_range(e, f, &x, max64(x.first, decayed), end, 0, h);
}

/* How this step's gradients are used, all of it on the device. */
static void prepare_update(struct engine *e, const struct hyper *h)
{
    struct step_state *step = e->arena.step;
    struct update u = {.lr = (float)h->lr,
                       .correction1 = (float)(1 - pow(h->beta1, (double)h->step)),
                       .correction2 = (float)(1 - pow(h->beta2, (double)h->step))};
    e->be->upload(e->s, &step->update, &u, sizeof u);
    e->be->clip(e->s, &OP(clip, .square = &step->totals.square, .loss = &step->totals.loss, .limit = h->clip,
                          .update = &step->update));
}

int optimizer_update(struct engine *e, const struct hyper *h)
{
    enum phase before = profile_enter(&e->profile, PHASE_OPTIMIZER);
    prepare_update(e, h);
    TRY(weights_update(e, update_slice, h));
    profile_enter(&e->profile, before);
    return 0;
}
