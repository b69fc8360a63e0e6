/* SPDX-License-Identifier: MIT */
#include "engine/buckets.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "plan/schedule.h"

#define AT_THE_END INT64_MAX

/* ---- when ---- */

/* Of each chunk the first forward of the program, the last backward, and the last operation that makes
 * gradients of weights. */
struct chunk_ends {
    int64_t forward, backward, weights;
};

static struct chunk_ends *find_ends(const struct engine *e)
{
    const struct program *g = &e->plan->programs[e->at.pp];
    char last = program_splits_backward(g) ? 'W' : 'B';
    struct chunk_ends *ends = xmalloc((size_t)e->plan->axes.vpp * sizeof *ends);
    for (int c = 0; c < e->plan->axes.vpp; c++)
        ends[c] = (struct chunk_ends){-1, -1, -1};
    for (int i = 0; i < g->count; i++) {
        struct chunk_ends *x = &ends[g->ops[i].chunk];
        if (g->ops[i].kind == 'F' && x->forward < 0)
            x->forward = i;
        if (g->ops[i].kind == 'B')
            x->backward = i;
        if (g->ops[i].kind == last && (x->weights < 0 || !left_out("bucket-early")))
            x->weights = i;
    }
    return ends;
}

/* The one that has the layer. */
static const struct stage *stage_of(const struct plan *p, int layer)
{
    const struct stage *s = p->stages;
    while (layer >= s->first + s->layers)
        s++;
    return s;
}

/* When the parameter is first used, and when its gradient is whole. */
static void find_moments(const struct engine *e, const struct chunk_ends *ends, const struct shard *h,
                         int64_t *needed, int64_t *done)
{
    const struct plan *p = e->plan;
    const struct tensor *t = &p->inventory.tensors[h->tensor];
    int64_t parts = e->buckets.parts;
    const struct stage *first = p->stages, *last = &p->stages[p->stage_count - 1];
    if (t->layer >= 0) {
        const struct stage *s = stage_of(p, t->layer);
        *needed = ends[s->chunk].forward * parts + 1 + t->layer - s->first;
        *done = ends[s->chunk].weights * parts + s->layers - (t->layer - s->first);
    } else if (t->kind == T_EMBED && !h->second) {
        *needed = ends[first->chunk].forward * parts;
        *done = ends[first->chunk].backward * parts + first->layers + 1;
        if (p->model.tied && plan_is_last(p, e->at.pp)) /* the head is the same */
            *done = max64(*done, ends[last->chunk].backward * parts);
    } else {
        *needed = ends[last->chunk].forward * parts + last->layers + 1;
        *done = ends[last->chunk].backward * parts;
    }
    if ((t->kind == T_EMBED || h->second) && e->group[GROUP_EMBED])
        *done = AT_THE_END; /* summed over two stages before */
}

static int by_done(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    return x->done != y->done   ? (x->done < y->done ? -1 : 1)
           : x->flat != y->flat ? (int)x->flat - (int)y->flat
                                : (x->index > y->index) - (x->index < y->index);
}

static int by_needed(const void *a, const void *b)
{
    const struct bucket *x = *(struct bucket *const *)a, *y = *(struct bucket *const *)b;
    return x->needed != y->needed ? (x->needed < y->needed ? -1 : 1)
           : x->flat != y->flat   ? (int)x->flat - (int)y->flat
                                  : (x->index > y->index) - (x->index < y->index);
}

/* The buckets of flat buffers that several replicas have, from `first` in the list on. */
static void find_buckets(struct engine *e, const struct chunk_ends *ends)
{
    struct buckets *b = &e->buckets;
    const struct shards *s = &e->shards;
    int64_t base[FLATS] = {0};
    for (int f = 0; f < FLAT_BUFFER; f++) {
        base[f] = b->count;
        for (int64_t k = 0; s->replicas[f] > 1 && k < shards_buckets(s, f); k++)
            b->list[b->count++] = (struct bucket){.flat = f, .index = k, .needed = AT_THE_END, .done = -1};
    }
    for (int i = 0; i < s->count; i++) {
        const struct shard *h = &s->list[i];
        int64_t needed, end = h->offset + h->rows * h->cols;
        find_moments(e, ends, h, &needed, &b->done[i]);
        b->first = min64(b->first, b->done[i]);
        if (h->flat == FLAT_BUFFER || s->replicas[h->flat] == 1)
            continue;
        for (int64_t k = h->offset / s->bucket[h->flat]; k * s->bucket[h->flat] < end; k++) {
            struct bucket *x = &b->list[base[h->flat] + k];
            x->needed = min64(x->needed, needed);
            x->done = max64(x->done, b->done[i]);
        }
    }
}

void buckets_init(struct engine *e)
{
    struct buckets *b = &e->buckets;
    int64_t most = shards_buckets(&e->shards, FLAT_DENSE) + shards_buckets(&e->shards, FLAT_EXPERT), layers = 0;
    for (int i = 0; i < e->plan->stage_count; i++)
        layers = max64(layers, e->plan->stages[i].layers);
    *b = (struct buckets){.parts = layers + 2, .first = AT_THE_END};
    b->list = xcalloc((size_t)most + 1, sizeof *b->list);
    b->done = xcalloc((size_t)e->shards.count + 1, sizeof *b->done);
    b->needed = xcalloc((size_t)most + 1, sizeof *b->needed);
    struct chunk_ends *ends = find_ends(e);
    find_buckets(e, ends);
    free(ends);
    if (b->count)
        qsort(b->list, (size_t)b->count, sizeof *b->list, by_done);
    for (int i = 0; i < b->count; i++)
        if (e->shards.cuts[b->list[i].flat] > 1)
            b->needed[b->gathers++] = &b->list[i];
    if (b->gathers)
        qsort(b->needed, (size_t)b->gathers, sizeof *b->needed, by_needed);
    b->sums = b->count;
    b->waits = b->gathers;
    if (!plan_cuts_buckets(e->plan))
        return;
    b->s = e->be->stream_new();
    comm_set_scratch_beside(e->comm, b->s, e->ws->buckets, (size_t)e->ws->buckets_bytes);
    b->ready = e->be->event_new();
    b->summed = e->be->event_new();
    for (int i = 0; i < b->count; i++)
        b->list[i].gathered = e->be->event_new();
}

void buckets_release(struct engine *e)
{
    struct buckets *b = &e->buckets;
    if (b->s) {
        e->be->sync(b->s);
        e->be->stream_free(b->s);
        comm_set_scratch_beside(e->comm, NULL, NULL, 0);
        e->be->event_free(b->ready);
        e->be->event_free(b->summed);
        for (int i = 0; i < b->count; i++)
            e->be->event_free(b->list[i].gathered);
    }
    free(b->list);
    free(b->done);
    free(b->needed);
    *b = (struct buckets){0};
}

void buckets_at(struct engine *e, int op)
{
    e->buckets.now = op * e->buckets.parts;
}

bool buckets_within(const struct engine *e)
{
    const struct buckets *b = &e->buckets;
    int64_t end = b->now + b->parts;
    return (b->beside && b->sums < b->count && b->list[b->sums].done < end) ||
           (b->waits < b->gathers && b->needed[b->waits]->needed < end);
}

/* ---- what is beside ---- */

/* Where a sum or a gather goes: with overlap behind what has been queued in the stream that computes. */
static struct stream *leave(struct engine *e, bool ordered)
{
    struct buckets *b = &e->buckets;
    if (!b->beside)
        return e->s;
    e->be->event_record(b->ready, e->s);
    if (ordered)
        e->be->event_wait(b->s, b->ready);
    profile_begin(&e->profile, b->s);
    return b->s;
}

static void land(struct engine *e, struct event *over)
{
    if (!e->buckets.beside)
        return;
    profile_end(&e->profile, e->buckets.s);
    e->be->event_record(over, e->buckets.s);
}

static struct group *replicas(const struct engine *e, enum flat f)
{
    if (fault("zero-group") && f == FLAT_EXPERT &&
        e->shards.replicas[FLAT_DENSE] == e->shards.replicas[FLAT_EXPERT])
        return e->group[GROUP_DP];
    return e->group[f == FLAT_DENSE ? GROUP_DP : GROUP_EDP];
}

/* ---- gradients ---- */

void gradients_begin(struct engine *e)
{
    struct buckets *b = &e->buckets;
    b->beside = e->overlap && b->s;
    b->sums = 0;
    b->shared = -1;
}

/* Sums the dense parameters that several tensor-parallel ranks hold, of those whose gradients are whole by now
 * and were not before, runs of neighbours at once. */
static int sum_shared(struct engine *e, int64_t now, enum partial partial, struct group *g)
{
    const struct buckets *b = &e->buckets;
    if (!g || group_size(g) == 1)
        return 0;
    float *run = NULL;
    int64_t length = 0;
    for (int i = 0; i <= e->shards.count; i++) {
        const struct shard *s = i < e->shards.count ? &e->shards.list[i] : NULL;
        if (s &&
            (s->flat != FLAT_DENSE || s->partial != partial || b->done[i] <= b->shared || b->done[i] > now))
            continue;
        float *at = s ? e->arena.grad[FLAT_DENSE] + s->offset : NULL;
        if (s && run && at == run + length) {
            length += s->rows * s->cols;
            continue;
        }
        if (length)
            TRY(all_reduce(g, e->s, run, length));
        run = at;
        length = s ? s->rows * s->cols : 0;
    }
    return 0;
}

static int sum_all_shared(struct engine *e, int64_t now)
{
    if (!fault("norm-gradients-tp"))
        TRY(sum_shared(e, now, PARTIAL_TP, e->group[GROUP_TP]));
    if (!fault("kv-gradients"))
        TRY(sum_shared(e, now, PARTIAL_KV, e->group[GROUP_KV]));
    e->buckets.shared = now;
    return 0;
}

/* The embedding of a tied model lies on two stages; each saw its own use of it. */
static int sum_tied(struct engine *e)
{
    struct group *g = e->group[GROUP_EMBED];
    struct weight *w = plan_is_first(e->plan, e->at.pp) ? &e->embed : &e->head;
    if (!g || !w->g || fault("tied-embedding"))
        return 0;
    return all_reduce(g, e->s, w->g, e->arena.vocab * e->H);
}

static int sum_bucket(struct engine *e, const struct bucket *x, struct stream *s)
{
    struct slice all = shards_bucket(&e->shards, x->flat, x->index),
                 own = shards_slice(&e->shards, x->flat, x->index);
    float *grad = e->arena.grad[x->flat];
    if (x->flat == FLAT_DENSE && fault("dense-dp"))
        return 0;
    if (x->flat == FLAT_EXPERT && fault("expert-edp"))
        return 0;
    if (e->shards.cuts[x->flat] == 1)
        return all_reduce(replicas(e, x->flat), s, grad + all.first, all.count);
    return reduce_scatter(replicas(e, x->flat), s, F32, grad + all.first, grad + own.first, own.count);
}

/* Of those that are left the buckets that are whole by now. */
static int sum_buckets(struct engine *e, int64_t now)
{
    struct buckets *b = &e->buckets;
    for (; b->sums < b->count && b->list[b->sums].done <= now; b->sums++) {
        TRY(sum_bucket(e, &b->list[b->sums], leave(e, !left_out("gradients-not-awaited"))));
        land(e, b->summed);
    }
    return 0;
}

int gradients_done(struct engine *e, int part)
{
    struct buckets *b = &e->buckets;
    int64_t now = b->now + part;
    if (!b->beside || now < b->first)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    TRY(sum_all_shared(e, now));
    TRY(sum_buckets(e, now));
    profile_enter(&e->profile, before);
    return 0;
}

/* On every replica all of the sums, not its slices alone. */
static int gather_gradients(struct engine *e)
{
    const struct shards *s = &e->shards;
    for (int i = 0; i < e->buckets.count; i++) {
        const struct bucket *x = &e->buckets.list[i];
        struct slice all = shards_bucket(s, x->flat, x->index), own = shards_slice(s, x->flat, x->index);
        float *grad = e->arena.grad[x->flat];
        if (s->cuts[x->flat] > 1)
            TRY(all_gather(replicas(e, x->flat), e->s, grad + own.first, grad + all.first,
                           (size_t)own.count * 4));
    }
    return 0;
}

int gradients_reduce(struct engine *e, bool whole)
{
    struct buckets *b = &e->buckets;
    weights_settle(e);
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    TRY(sum_all_shared(e, AT_THE_END));
    TRY(sum_tied(e));
    TRY(sum_buckets(e, AT_THE_END));
    if (b->beside) {
        profile_join(&e->profile, PHASE_DP, b->s);
        if (!left_out("sums-not-awaited"))
            e->be->event_wait(e->s, b->summed);
    }
    if (whole)
        TRY(gather_gradients(e));
    profile_enter(&e->profile, before);
    return 0;
}

/* ---- weights ---- */

static int gather_weights(struct engine *e, const struct bucket *x, struct stream *s)
{
    struct slice all = shards_bucket(&e->shards, x->flat, x->index),
                 own = shards_slice(&e->shards, x->flat, x->index);
    size_t bytes = type_bytes(e->type);
    char *weights = e->arena.weights[x->flat];
    if (fault("weights-not-gathered"))
        return 0;
    return all_gather(replicas(e, x->flat), s, weights + (size_t)own.first * bytes,
                      weights + (size_t)all.first * bytes, (size_t)own.count * bytes);
}

int weights_update(struct engine *e, void (*update)(struct engine *, enum flat, int64_t, const void *of),
                   const void *of)
{
    struct buckets *b = &e->buckets;
    for (int i = 0; i < b->gathers; i++) {
        struct bucket *x = b->needed[i];
        update(e, x->flat, x->index, of);
        if (!b->beside)
            continue;
        TRY(gather_weights(e, x, leave(e, !left_out("update-not-awaited"))));
        land(e, x->gathered);
    }
    for (int f = 0; f < FLAT_BUFFER; f++) /* what each replica has whole */
        for (int64_t k = 0; e->shards.cuts[f] == 1 && k < shards_buckets(&e->shards, f); k++)
            update(e, f, k, of);
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    for (int i = 0; i < b->gathers && !b->beside; i++)
        TRY(gather_weights(e, b->needed[i], e->s));
    profile_enter(&e->profile, before);
    b->waits = b->beside ? 0 : b->gathers;
    return 0;
}

static void await_until(struct engine *e, int64_t now)
{
    struct buckets *b = &e->buckets;
    int from = b->waits;
    while (b->waits < b->gathers && b->needed[b->waits]->needed <= now)
        b->waits++;
    if (b->waits == from)
        return;
    enum phase before = profile_join_first(&e->profile, PHASE_DP, b->s, b->waits - from);
    if (!left_out("weights-not-awaited"))
        e->be->event_wait(e->s, b->needed[b->waits - 1]->gathered);
    profile_enter(&e->profile, before);
}

void weights_await(struct engine *e, int part)
{
    await_until(e, e->buckets.now + part);
}

void weights_settle(struct engine *e)
{
    await_until(e, AT_THE_END);
}
