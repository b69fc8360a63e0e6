/* SPDX-License-Identifier: MIT */
#include "plan/shard.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/num.h"

enum { SLICE_ALIGN = 64 };

void even_part(int64_t total, int64_t n, int64_t i, int64_t *first, int64_t *count)
{
    int64_t each = total / n, longer = total % n;
    *first = i * each + min64(i, longer);
    *count = each + (i < longer);
}

/* The rows and columns of t that coordinate `at` holds, and how its gradient is partial. */
static void cut_tensor(const struct plan *p, const struct tensor *t, const struct coords *at, struct shard *s)
{
    int64_t tp = t->expert >= 0 ? p->axes.etp : p->axes.tp, i = t->expert >= 0 ? at->etp : at->tp;
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

static bool layer_on(const struct plan *p, int pp, int layer)
{
    for (int v = 0; v < p->stage_count; v++) {
        const struct stage *s = &p->stages[v];
        if (s->pp == pp && layer >= s->first && layer < s->first + s->layers)
            return true;
    }
    return false;
}

/* Whether this rank holds any of t; for experts also which slot it fills here. */
static bool held(const struct plan *p, const struct tensor *t, const struct coords *at, int64_t *slot)
{
    int last = p->stages[p->stage_count - 1].pp, first = p->stages[0].pp;
    if (t->kind == T_EMBED)
        return at->pp == first;
    if (t->kind == T_FINAL_NORM || t->kind == T_HEAD)
        return at->pp == last;
    if (!layer_on(p, at->pp, t->layer))
        return false;
    if (t->expert < 0)
        return true;
    int64_t each = p->model.experts / p->axes.ep;
    *slot = plan_layer_slot(p, t->layer, t->expert);
    if (*slot / each != at->ep)
        return false;
    *slot %= each;
    return true;
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

/* Slices of equal size for the replicas. */
static void cut_slices(struct shards *s, const struct plan *p, const struct coords *at)
{
    s->replicas[FLAT_DENSE] = (int)(p->axes.dp * p->axes.cp);
    s->replica[FLAT_DENSE] = (int)(at->dp * p->axes.cp + at->cp);
    s->replicas[FLAT_EXPERT] = (int)p->axes.edp;
    s->replica[FLAT_EXPERT] = at->edp;
    s->replicas[FLAT_BUFFER] = 1;
    for (int f = 0; f < FLATS; f++) {
        int64_t n = p->training.zero ? s->replicas[f] : 1;
        s->padded[f] = round_up(s->elements[f], SLICE_ALIGN * n);
        s->slice[f] = s->padded[f] / n;
        s->slice_first[f] = n > 1 ? s->slice[f] * s->replica[f] : 0;
    }
}

void shards_init(struct shards *s, const struct plan *p, int rank)
{
    *s = (struct shards){0};
    const struct coords *at = &p->ranks[rank];
    int64_t each = p->model.experts / p->axes.ep, base = 0;
    int tied_head = -1, layer = -1;
    for (int i = 0; i < p->inventory.count; i++) {
        const struct tensor *t = &p->inventory.tensors[i];
        int64_t slot = 0;
        if (t->kind == T_EMBED)
            tied_head = i;
        if (!held(p, t, at, &slot))
            continue;
        struct shard one;
        cut_tensor(p, t, at, &one);
        one.tensor = i;
        one.flat = !t->trained ? FLAT_BUFFER : t->expert >= 0 ? FLAT_EXPERT : FLAT_DENSE;
        if (t->expert >= 0) {
            int64_t size = one.rows * one.cols; /* gate, up and down are of one size */
            if (t->layer != layer) {
                layer = t->layer;
                base = s->elements[FLAT_EXPERT];
                s->elements[FLAT_EXPERT] += 3 * each * size;
            }
            one.offset = base + (3 * slot + (t->kind - T_EXPERT_GATE)) * size;
        }
        append(s, one);
    }
    const struct stage *first = &p->stages[0], *last = &p->stages[p->stage_count - 1];
    if (p->model.tied && at->pp == last->pp && first->pp != last->pp) {
        struct shard one;
        cut_tensor(p, &p->inventory.tensors[tied_head], at, &one);
        one.tensor = tied_head;
        one.second = true;
        one.counted = false;
        append(s, one);
    }
    place_dense(s, p);
    s->decayed[FLAT_EXPERT] = s->elements[FLAT_EXPERT];
    cut_slices(s, p, at);
}

void shards_release(struct shards *s)
{
    free(s->list);
    *s = (struct shards){0};
}
