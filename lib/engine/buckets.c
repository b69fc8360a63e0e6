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

/* Of each chunk the first forward of the program, the last backward, and the last operation that makes gradients
 * of weights. */
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
        if (g->ops[i].kind == last && (x->weights < 0 || !fault("bucket-early")))
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

static void open_work(struct engine *e, struct bucket_work *w)
{
    w->there = e->be->event_new();
    w->begun = e->be->event_new();
    w->over = e->be->event_new();
}

static void close_work(struct engine *e, struct bucket_work *w)
{
    e->be->event_free(w->there);
    e->be->event_free(w->begun);
    e->be->event_free(w->over);
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
    b->summed = b->count;
    b->awaited = b->gathers;
    if (!plan_cuts_buckets(e->plan))
        return;
    b->s = e->be->stream_new();
    comm_set_scratch_beside(e->comm, b->s, e->ws->buckets, (size_t)e->ws->buckets_bytes);
    for (int i = 0; i < b->count; i++) {
        open_work(e, &b->list[i].sum);
        open_work(e, &b->list[i].gather[0]);
        open_work(e, &b->list[i].gather[1]);
    }
}

void buckets_release(struct engine *e)
{
    struct buckets *b = &e->buckets;
    if (b->s) {
        e->be->sync(b->s);
        e->be->stream_free(b->s);
        comm_set_scratch_beside(e->comm, NULL, NULL, 0);
        for (int i = 0; i < b->count; i++) {
            close_work(e, &b->list[i].sum);
            close_work(e, &b->list[i].gather[0]);
            close_work(e, &b->list[i].gather[1]);
        }
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
    return (b->summed < b->count && b->list[b->summed].done < end) ||
           (b->awaited < b->gathers && b->needed[b->awaited]->needed < end);
}

/* ---- what is beside ---- */

/* Work in the buckets' stream, behind what has been queued in the one that computes. */
static void begin_beside(struct engine *e, struct bucket_work *w, bool wait)
{
    e->be->event_record(w->there, e->s);
    if (wait)
        e->be->event_wait(e->buckets.s, w->there);
    e->be->event_record(w->begun, e->buckets.s);
}

static struct group *replicas(const struct engine *e, enum flat f)
{
    if (fault("zero-group") && f == FLAT_EXPERT &&
        e->shards.replicas[FLAT_DENSE] == e->shards.replicas[FLAT_EXPERT])
        return e->group[GROUP_DP];
    return e->group[f == FLAT_DENSE ? GROUP_DP : GROUP_EDP];
}

/* ---- gradients ---- */

void gradients_zero(struct engine *e)
{
    struct buckets *b = &e->buckets;
    for (int f = 0; f < 2; f++)
        e->be->zero(e->s, e->arena.grad[f], (size_t)e->shards.padded[f] * 4);
    b->beside = e->overlap && b->s;
    b->summed = 0;
    b->shared = -1;
}

/* Sums the dense parameters that several tensor-parallel ranks hold, of those whose gradients are whole by now and
 * were not before, runs of neighbours at once. */
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
    if (x->flat == FLAT_DENSE ? fault("dense-dp") : fault("expert-edp"))
        return 0;
    if (e->shards.cuts[x->flat] == 1)
        return all_reduce(replicas(e, x->flat), s, grad + all.first, all.count);
    return reduce_scatter(replicas(e, x->flat), s, F32, grad + all.first, grad + own.first, own.count);
}

/* Of those that are left the buckets that are whole by now. */
static int sum_buckets(struct engine *e, int64_t now)
{
    struct buckets *b = &e->buckets;
    for (; b->summed < b->count && b->list[b->summed].done <= now; b->summed++) {
        struct bucket *x = &b->list[b->summed];
        if (b->beside)
            begin_beside(e, &x->sum, !left_out("gradients-not-awaited"));
        TRY(sum_bucket(e, x, b->beside ? b->s : e->s));
        if (b->beside)
            e->be->event_record(x->sum.over, b->s);
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
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    TRY(sum_all_shared(e, AT_THE_END));
    TRY(sum_tied(e));
    TRY(sum_buckets(e, AT_THE_END));
    if (b->beside && b->count && !left_out("sums-not-awaited"))
        e->be->event_wait(e->s, b->list[b->count - 1].sum.over);
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

static int gather_beside(struct engine *e, struct bucket *x)
{
    struct buckets *b = &e->buckets;
    struct bucket_work *w = &x->gather[b->turn % 2];
    begin_beside(e, w, !left_out("update-not-awaited"));
    TRY(gather_weights(e, x, b->s));
    e->be->event_record(w->over, b->s);
    return 0;
}

int weights_update(struct engine *e, void (*update)(struct engine *, enum flat, int64_t, const void *of),
                   const void *of)
{
    struct buckets *b = &e->buckets;
    for (int i = 0; i < b->gathers; i++) {
        update(e, b->needed[i]->flat, b->needed[i]->index, of);
        if (b->beside)
            TRY(gather_beside(e, b->needed[i]));
    }
    for (int f = 0; f < FLAT_BUFFER; f++) /* what replicas each have whole */
        for (int64_t k = 0; e->shards.cuts[f] == 1 && k < shards_buckets(&e->shards, f); k++)
            update(e, f, k, of);
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    for (int i = 0; i < b->gathers && !b->beside; i++)
        TRY(gather_weights(e, b->needed[i], e->s));
    profile_enter(&e->profile, before);
    b->turn += b->beside;
    b->awaited = b->beside ? 0 : b->gathers;
    return 0;
}

static void await_until(struct engine *e, int64_t now)
{
    struct buckets *b = &e->buckets;
    if (b->awaited == b->gathers || b->needed[b->awaited]->needed > now)
        return;
    enum phase before = profile_enter(&e->profile, PHASE_DP);
    for (; b->awaited < b->gathers && b->needed[b->awaited]->needed <= now; b->awaited++)
        if (!left_out("weights-not-awaited"))
            e->be->event_wait(e->s, b->needed[b->awaited]->gather[(b->turn + 1) % 2].over);
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

double buckets_seconds(const struct engine *e)
{
    const struct buckets *b = &e->buckets;
    double sum = 0;
    for (int i = 0; i < b->count && b->beside; i++)
        sum += e->be->elapsed(b->list[i].sum.begun, b->list[i].sum.over);
    for (int i = 0; i < b->gathers && b->turn > 1; i++) {
        const struct bucket_work *before = &b->needed[i]->gather[b->turn % 2];
        sum += e->be->elapsed(before->begun, before->over);
    }
    return sum;
}
