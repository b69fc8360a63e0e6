/* SPDX-License-Identifier: MIT */
#include "plan/shard.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"
#include "model/inventory.h"
#include "plan/slots.h"

enum { SLICE_ALIGN = 64 };

/* The rows and columns of t that coordinate `at` holds, and how its gradient is partial. */
static void cut_tensor(const struct plan *p, const struct tensor *t, const struct coords *at, struct shard *s)
{
    bool expert = tensor_of_experts(t);
    int64_t tp = expert ? p->axes.etp : p->axes.tp, i = expert ? at->etp : at->tp;
    int64_t kv = p->model.kv_heads;
    *s = (struct shard){.rows = t->rows, .cols = t->cols, .counted = true};
    switch (t->cut) {
    case CUT_NONE:
        s->partial = tp > 1 ? PARTIAL_TP : PARTIAL_NONE;
        s->counted = i == 0;
        break;
    case CUT_COLS:
        even_part(t->cols, tp, i, &s->col, &s->cols);
        break;
    case CUT_KV:
        if (tp > kv) {
            int64_t sharers = tp / kv;
            s->rows = t->rows / kv;
            s->row = i / sharers * s->rows;
            s->partial = PARTIAL_KV;
            s->counted = i % sharers == 0;
            break;
        }
        /* fall through */
    case CUT_ROWS:
    case CUT_HEADS:
    case CUT_VOCAB:
        even_part(t->rows, tp, i, &s->row, &s->rows);
        break;
    }
}

static void append(struct shards *s, struct shard one)
{
    if ((s->count & (s->count + 1)) == 0)
        s->list = xrealloc(s->list, 2 * (size_t)s->count + 2, sizeof *s->list);
    s->list[s->count++] = one;
}

static int dims_of(const struct plan *p, const struct shard *s)
{
    return p->inventory.tensors[s->tensor].dims;
}

/* Matrices first, then vectors, each in inventory order. */
static void place_dense(struct shards *s, const struct plan *p)
{
    for (int dims = 2; dims >= 1; dims--) {
        for (int i = 0; i < s->count; i++) {
            struct shard *h = &s->list[i];
            if (h->flat != FLAT_EXPERT && (dims_of(p, h) >= 2) == (dims == 2)) {
                h->offset = s->elements[h->flat];
                s->elements[h->flat] += h->rows * h->cols;
            }
        }
        if (dims == 2)
            s->decayed[FLAT_DENSE] = s->elements[FLAT_DENSE];
    }
}

bool plan_cuts_buckets(const struct plan *p)
{
    return p->training.bucket_bytes > 0 && (p->axes.dp * p->axes.cp > 1 || p->axes.edp > 1);
}

int64_t bucket_default(const struct axes *a)
{
    int64_t replicas = max64(a->dp * a->cp, a->edp);
    return max64(32, replicas) << 20;
}

void bucket_resolve(struct plan *p)
{
    struct training *t = &p->training;
    if (t->overlap && !t->bucket_bytes)
        t->bucket_bytes = bucket_default(&p->axes);
}

void shards_cut(struct shards *s, const struct plan *p, const struct coords *at)
{
    s->replicas[FLAT_DENSE] = (int)(p->axes.dp * p->axes.cp);
    s->replica[FLAT_DENSE] = (int)(at->dp * p->axes.cp + at->cp);
    s->replicas[FLAT_EXPERT] = (int)p->axes.edp;
    s->replica[FLAT_EXPERT] = at->edp;
    s->replicas[FLAT_BUFFER] = 1;
    for (int f = 0; f < FLATS; f++) {
        s->cuts[f] = p->training.zero ? s->replicas[f] : 1;
        s->padded[f] = round_up(s->elements[f], SLICE_ALIGN * (int64_t)s->cuts[f]);
        int64_t bucket = p->training.bucket_bytes / (p->training.grad_bf16 ? 2 : 4);
        bucket = round_up(bucket, SLICE_ALIGN * (int64_t)s->cuts[f]);
        s->bucket[f] = bucket && s->replicas[f] > 1 ? min64(bucket, s->padded[f]) : s->padded[f];
        s->sliced[f] = s->padded[f] / s->cuts[f];
    }
}

int64_t shards_buckets(const struct shards *s, enum flat f)
{
    return s->padded[f] ? ceil_div(s->padded[f], s->bucket[f]) : 0;
}

struct slice shards_bucket(const struct shards *s, enum flat f, int64_t k)
{
    int64_t first = k * s->bucket[f];
    return (struct slice){first, min64(s->bucket[f], s->padded[f] - first), first / s->cuts[f]};
}

/* What one replica has of it. */
static struct slice slice_of(const struct shards *s, enum flat f, int64_t k, int replica)
{
    struct slice x = shards_bucket(s, f, k);
    x.count /= s->cuts[f];
    x.first += x.count * replica;
    return x;
}

struct slice shards_slice(const struct shards *s, enum flat f, int64_t k)
{
    return slice_of(s, f, k, s->cuts[f] > 1 ? s->replica[f] : 0);
}

/* What of x is in [at,end). */
static struct slice cut_slice(struct slice x, int64_t at, int64_t end)
{
    int64_t first = max64(x.first, at);
    return (struct slice){first, min64(x.first + x.count, end) - first, x.place + first - x.first};
}

bool shards_next(const struct shards *s, enum flat f, int64_t begin, int64_t end, struct slice *x)
{
    int64_t at = max64(x->count ? x->first + x->count : begin, 0);
    end = min64(end, s->padded[f]);
    if (at >= end)
        return false;
    if (s->cuts[f] == 1) { /* all of it */
        *x = (struct slice){at, end - at, at};
        return true;
    }
    int64_t k = at / s->bucket[f];
    struct slice own = shards_slice(s, f, k);
    if (own.first + own.count <= at && (k + 1) * s->bucket[f] < end)
        own = shards_slice(s, f, k + 1);
    *x = cut_slice(own, at, end);
    return x->count > 0;
}

int shards_owner(const struct shards *s, enum flat f, int64_t at, int64_t end, struct slice *x)
{
    int64_t k = at / s->bucket[f];
    struct slice of = shards_bucket(s, f, k);
    int replica = (int)((at - of.first) / (of.count / s->cuts[f]));
    *x = cut_slice(slice_of(s, f, k, replica), at, end);
    return replica;
}

/* The first tensor of the inventory that belongs to this layer or a later one: those outside the layers
 * stand at its ends. */
static int layer_begin(const struct inventory *v, int layer)
{
    int low = 0, high = v->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct tensor *t = &v->tensors[middle];
        bool before = t->layer < 0 ? t->kind == T_EMBED : t->layer < layer;
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where, in a run of slots, the expert is: -1 where it is not. */
static int64_t slot_on(const struct plan *p, int layer, int expert, int64_t begin, int64_t count)
{
    int64_t slot = plan_layer_slot(p, layer, expert) - begin;
    if (slot >= 0 && slot < count)
        return slot;
    if (!plan_replicas(p))
        return -1;
    for (slot = 0; slot < count; slot++)
        if (plan_slot_expert(p, layer, begin + slot) == expert)
            return slot;
    return -1;
}

static enum flat flat_of(const struct tensor *t)
{
    return !t->trained ? FLAT_BUFFER : tensor_of_experts(t) ? FLAT_EXPERT : FLAT_DENSE;
}

/* What `at` holds of tensors [first,end) of the inventory, all of its pipeline rank and of one layer at most:
 * of experts those in its slots, which lie in the order of the slots. A replica takes room, and is listed once.
 */
static void add_shards(struct shards *s, const struct plan *p, const struct coords *at, int first, int end)
{
    int64_t base = -1;
    for (int i = first; i < end; i++) {
        const struct tensor *t = &p->inventory.tensors[i];
        bool of_experts = t->stack || t->expert >= 0;
        int64_t begin = 0, each = of_experts ? plan_slots(p, t->layer, at->ep, &begin) : 0;
        int64_t slot = t->expert >= 0 ? slot_on(p, t->layer, t->expert, begin, each) : 0;
        if (slot < 0)
            continue;
        struct shard one;
        cut_tensor(p, t, at, &one);
        one.tensor = i;
        one.flat = flat_of(t);
        if (t->stack) { /* for planning only: counted, not placed by slots */
            one.offset = s->elements[FLAT_EXPERT];
            s->elements[FLAT_EXPERT] += each * one.rows * one.cols;
        } else if (t->expert >= 0) {
            int64_t size = one.rows * one.cols; /* gate, up and down are of one size */
            if (base < 0) {
                base = s->elements[FLAT_EXPERT];
                s->elements[FLAT_EXPERT] += 3 * each * size;
            }
            one.offset = base + (3 * slot + (t->kind - T_EXPERT_GATE)) * size;
        }
        append(s, one);
    }
}

void shards_init(struct shards *s, const struct plan *p, int rank)
{
    *s = (struct shards){0};
    const struct coords *at = &p->ranks[rank];
    const struct inventory *v = &p->inventory;
    int first_layer = layer_begin(v, 0), after = layer_begin(v, INT_MAX);
    if (plan_is_first(p, at->pp))
        add_shards(s, p, at, 0, first_layer);
    for (int i = at->pp; i < p->stage_count; i += (int)p->axes.pp) /* rule stages-cover */
        for (int k = 0; k < p->stages[i].layers; k++) {
            int layer = p->stages[i].first + k;
            add_shards(s, p, at, layer_begin(v, layer), layer_begin(v, layer + 1));
        }
    if (plan_is_last(p, at->pp))
        add_shards(s, p, at, after, v->count);
    if (p->model.tied && plan_is_last(p, at->pp) && !plan_is_first(p, at->pp)) {
        struct shard one;
        cut_tensor(p, &v->tensors[0], at, &one); /* the embedding */
        one.second = true;
        one.counted = false;
        append(s, one);
    }
    place_dense(s, p);
    s->decayed[FLAT_EXPERT] = s->elements[FLAT_EXPERT];
    shards_cut(s, p, at);
}

/* Of one layer, or (-1, from first to last kind) of what stands outside the layers. */
static void add_sizes(struct shards *s, const struct plan *p, const struct coords *at, int layer, int first,
                      int last)
{
    int64_t begin, each = layer < 0 ? 0 : plan_slots(p, layer, at->ep, &begin);
    struct tensor t;
    struct shard one;
    for (int k = first; k <= last; k++) {
        if (!inventory_tensor(&p->model, k, layer, &t))
            continue;
        cut_tensor(p, &t, at, &one);
        s->elements[flat_of(&t)] += (t.stack || t.expert >= 0 ? each : 1) * one.rows * one.cols;
    }
}

void shards_sizes(struct shards *s, const struct plan *p, const struct coords *at)
{
    struct layer_sizes k = {0};
    shards_sizes_of(s, p, at, &k);
}

void shards_sizes_of(struct shards *s, const struct plan *p, const struct coords *at, struct layer_sizes *k)
{
    bool alike = plan_slots_alike(p);
    *s = (struct shards){0};
    if (plan_is_first(p, at->pp) || (p->model.tied && plan_is_last(p, at->pp)))
        add_sizes(s, p, at, -1, T_EMBED, T_EMBED);
    for (int i = at->pp; i < p->stage_count; i += (int)p->axes.pp)
        for (int layer = p->stages[i].first; layer < p->stages[i].first + p->stages[i].layers; layer++) {
            int kind = model_layer_kind(&p->model, layer);
            if (!k->known[kind] || !alike) {
                struct shards one = {0};
                add_sizes(&one, p, at, layer, T_INPUT_NORM, T_FINAL_NORM - 1);
                memcpy(k->elements[kind], one.elements, sizeof one.elements);
                k->known[kind] = true;
            }
            for (int f = 0; f < FLATS; f++)
                s->elements[f] += k->elements[kind][f];
        }
    if (plan_is_last(p, at->pp))
        add_sizes(s, p, at, -1, T_FINAL_NORM, T_HEAD);
    shards_cut(s, p, at);
}

const struct shard *shards_find(const struct shards *s, int tensor)
{
    int end = s->count;
    if (end && s->list[end - 1].second)
        end--; /* out of order */
    int low = 0;
    for (int high = end; low < high;) {
        int middle = low + (high - low) / 2;
        if (s->list[middle].tensor < tensor)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && s->list[low].tensor == tensor ? &s->list[low] : NULL;
}

void shards_release(struct shards *s)
{
    free(s->list);
    *s = (struct shards){0};
}
