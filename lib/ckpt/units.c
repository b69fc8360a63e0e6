/* SPDX-License-Identifier: MIT */
#include "ckpt/units.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

#define UNIT_BYTES (8 << 20)

static const struct tensor *tensor_of(const struct units *u, const struct map_entry *e)
{
    return &u->plan->inventory.tensors[e->tensor];
}

/* The pipeline rank that counts this tensor. */
static int pp_of(const struct units *u, const struct tensor *t)
{
    const struct plan *p = u->plan;
    if (t->layer >= 0)
        return u->layer_pp[t->layer];
    return p->stages[t->kind == T_EMBED ? 0 : p->stage_count - 1].pp;
}

/* Ranks sorted by a key in [0,keys). */
static void sort_ranks(const struct plan *p, bool with_ep, int keys, int **ranks, int **first)
{
    *ranks = xcalloc(p->world, sizeof **ranks);
    *first = xcalloc(keys + 2, sizeof **first);
    for (int pass = 0; pass < 2; pass++) {
        for (int r = 0; r < p->world; r++) {
            const struct coords *at = &p->ranks[r];
            int key = with_ep ? at->pp * (int)p->axes.ep + at->ep : at->pp;
            if (pass == 0)
                (*first)[key + 2]++;
            else
                (*ranks)[(*first)[key + 1]++] = r;
        }
        for (int k = 1; k <= keys + 1 && pass == 0; k++)
            (*first)[k] += (*first)[k - 1];
    }
}

/* The ranks that may hold a tensor: those of its stage, for an expert those of its ep index. */
static const int *holders(const struct units *u, const struct tensor *t, int *count)
{
    const struct plan *p = u->plan;
    int pp = pp_of(u, t);
    if (t->expert < 0) {
        *count = u->pp_first[pp + 1] - u->pp_first[pp];
        return u->by_pp + u->pp_first[pp];
    }
    int64_t each = p->model.experts / p->axes.ep;
    int key = pp * (int)p->axes.ep + (int)(plan_layer_slot(p, t->layer, t->expert) / each);
    *count = u->ep_first[key + 1] - u->ep_first[key];
    return u->by_pp_ep + u->ep_first[key];
}

void units_init(struct units *u, const struct ckpt_map *l)
{
    const struct plan *p = l->plan;
    *u = (struct units){.l = l, .plan = p};
    u->shards = xcalloc(p->world, sizeof *u->shards);
    u->load = xcalloc(p->world, sizeof *u->load);
    u->layer_pp = xcalloc(p->model.layers, sizeof *u->layer_pp);
    for (int v = 0; v < p->stage_count; v++)
        for (int i = 0; i < p->stages[v].layers; i++)
            u->layer_pp[p->stages[v].first + i] = p->stages[v].pp;
    sort_ranks(p, false, (int)p->axes.pp, &u->by_pp, &u->pp_first);
    sort_ranks(p, true, (int)(p->axes.pp * p->axes.ep), &u->by_pp_ep, &u->ep_first);
}

void units_release(struct units *u)
{
    for (int r = 0; u->shards && r < u->plan->world; r++) {
        if (u->shards[r])
            shards_release(u->shards[r]);
        free(u->shards[r]);
    }
    free(u->shards);
    free(u->load);
    free(u->layer_pp);
    free(u->by_pp);
    free(u->by_pp_ep);
    free(u->pp_first);
    free(u->ep_first);
    free(u->now.segments);
    free(u->list);
    *u = (struct units){0};
}

/* The one among those near the data that has written least so far. */
static int choose_writer(struct units *u, const struct unit *unit)
{
    int count;
    const int *ranks = holders(u, tensor_of(u, &u->l->entries[unit->segments[0].entry]), &count);
    int best = ranks[0];
    for (int i = 1; i < count; i++)
        if (u->load[ranks[i]] < u->load[best])
            best = ranks[i];
    u->load[best] += unit->bytes;
    return best;
}

static struct segment *new_segment(struct unit *n)
{
    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 16;
        n->segments = xrealloc(n->segments, n->room, sizeof *n->segments);
    }
    return &n->segments[n->count++];
}

const struct unit *units_next(struct units *u)
{
    struct unit *n = &u->now;
    n->count = 0;
    n->bytes = 0;
    while (u->entry < u->l->count) {
        const struct map_entry *e = &u->l->entries[u->entry];
        int64_t row = row_bytes(u->l, e), left = tensor_of(u, e)->rows - u->row;
        if (n->count && (e->file != n->file || n->bytes + row > UNIT_BYTES))
            break;
        if (!n->count) {
            n->file = e->file;
            n->offset = u->l->files[e->file].header + e->begin + u->row * row;
        }
        int64_t rows = min64(left, max64(1, (UNIT_BYTES - n->bytes) / row));
        *new_segment(n) = (struct segment){
            .entry = u->entry, .row = u->row, .rows = rows, .at = n->bytes, .bytes = rows * row};
        n->bytes += rows * row;
        u->row += rows;
        if (rows == left) {
            u->entry++;
            u->row = 0;
        }
    }
    if (!n->count)
        return NULL;
    n->number = u->number++;
    n->writer = choose_writer(u, n);
    return n;
}

bool units_touch(const struct units *u, const struct unit *unit, int rank)
{
    const struct coords *at = &u->plan->ranks[rank];
    for (int i = 0; i < unit->count; i++)
        if (pp_of(u, tensor_of(u, &u->l->entries[unit->segments[i].entry])) == at->pp)
            return true;
    return false;
}

const struct shards *units_shards(struct units *u, int rank)
{
    if (!u->shards[rank]) {
        u->shards[rank] = xcalloc(1, sizeof *u->shards[rank]);
        shards_init(u->shards[rank], u->plan, rank);
    }
    return u->shards[rank];
}

/* The part of the tensor that this rank counts, or NULL. */
static const struct shard *counted_shard(const struct shards *s, int tensor)
{
    int low = 0, high = s->count;
    if (high && s->list[high - 1].second)
        high--; /* the tied head's copy is out of order, and never counted */
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (s->list[middle].tensor < tensor)
            low = middle + 1;
        else
            high = middle;
    }
    const struct shard *h = low < s->count ? &s->list[low] : NULL;
    return h && h->tensor == tensor && h->counted && !h->second ? h : NULL;
}

bool units_sliced(const struct units *u, const struct map_entry *e, const struct shards *s, enum flat flat)
{
    return e->state != WEIGHTS && u->plan->training.zero > 0 && s->replicas[flat] > 1;
}

static void add_contribution(struct units *u, struct contribution c)
{
    if (u->list_count == u->list_room) {
        u->list_room = u->list_room ? 2 * u->list_room : 64;
        u->list = xrealloc(u->list, u->list_room, sizeof *u->list);
    }
    u->list[u->list_count++] = c;
}

/* What `rank` gives to a segment, given which replica supplies what all replicas hold. Returns elements. */
static int64_t offer(struct units *u, const struct unit *unit, int segment, int rank,
                     const struct shards *writer)
{
    const struct segment *g = &unit->segments[segment];
    const struct map_entry *e = &u->l->entries[g->entry];
    const struct shards *s = units_shards(u, rank);
    const struct shard *h = counted_shard(s, e->tensor);
    if (!h)
        return 0;
    int64_t row = max64(g->row, h->row), end = min64(g->row + g->rows, h->row + h->rows);
    int64_t first = h->offset + (row - h->row) * h->cols, last = h->offset + (end - h->row) * h->cols;
    if (units_sliced(u, e, s, h->flat)) {
        first = max64(first, s->slice_first[h->flat]);
        last = min64(last, s->slice_first[h->flat] + s->slice[h->flat]);
    } else {
        enum flat flat = h->flat == FLAT_BUFFER ? FLAT_DENSE : h->flat;
        if (s->replica[flat] != writer->replica[flat])
            return 0;
    }
    if (row >= end || first >= last)
        return 0;
    add_contribution(u,
                     (struct contribution){
                         .rank = rank, .segment = segment, .shard = h, .first = first, .count = last - first});
    return last - first;
}

int units_parts(struct units *u, const struct unit *unit)
{
    const struct shards *writer = units_shards(u, unit->writer);
    u->list_count = 0;
    for (int i = 0; i < unit->count; i++) {
        const struct segment *g = &unit->segments[i];
        const struct tensor *t = tensor_of(u, &u->l->entries[g->entry]);
        int count;
        const int *ranks = holders(u, t, &count);
        int64_t have = 0;
        for (int r = 0; r < count; r++)
            have += offer(u, unit, i, ranks[r], writer);
        if (have != g->rows * t->cols) {
            char name[160];
            return error(STATUS_USAGE, "plan: its ranks hold %lld of %lld elements of rows %lld-%lld of '%s'",
                         (long long)have, (long long)(g->rows * t->cols), (long long)g->row,
                         (long long)(g->row + g->rows - 1),
                         map_entry_name(u->l, &u->l->entries[g->entry], name));
        }
    }
    return 0;
}

int64_t unit_run(const struct units *u, const struct unit *unit, const struct contribution *c)
{
    const struct segment *g = &unit->segments[c->segment];
    const struct map_entry *e = &u->l->entries[g->entry];
    const struct tensor *t = tensor_of(u, e);
    const struct shard *h = c->shard;
    if (h->cols != t->cols)
        return -1;
    return g->at + ((h->row - g->row) * t->cols + c->first - h->offset) * (int64_t)type_bytes(e->type);
}

void unit_scatter(const struct units *u, const struct unit *unit, const struct contribution *c,
                  const void *packed, char *bytes)
{
    const struct segment *g = &unit->segments[c->segment];
    const struct map_entry *e = &u->l->entries[g->entry];
    const struct tensor *t = tensor_of(u, e);
    const struct shard *h = c->shard;
    int64_t size = (int64_t)type_bytes(e->type), run = unit_run(u, unit, c);
    const char *from = packed;
    if (run >= 0) {
        memcpy(bytes + run, from, c->count * size);
        return;
    }
    /* Rows of the shard, the first and the last of them perhaps in part. */
    for (int64_t at = c->first - h->offset, end = at + c->count; at < end;) {
        int64_t row = at / h->cols, col = at % h->cols, n = min64(h->cols - col, end - at);
        int64_t to = (h->row + row - g->row) * t->cols + h->col + col;
        memcpy(bytes + g->at + to * size, from, n * size);
        from += n * size;
        at += n;
    }
}
