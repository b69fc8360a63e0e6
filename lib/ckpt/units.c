/* SPDX-License-Identifier: MIT */
#include "ckpt/units.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "plan/layout.h"
#include "plan/slots.h"

#define SLOT_BYTES ((int64_t)8 << 20) /* at most */

static const struct tensor *tensor_of(const struct units *u, const struct map_entry *e)
{
    return &u->plan->inventory.tensors[e->tensor];
}

/* Which of the two sorts of bytes a tensor is. */
static enum flat sort_of(const struct tensor *t)
{
    return t->expert >= 0 ? FLAT_EXPERT : FLAT_DENSE;
}

/* This rank's place among those that hold the other cuts of its tensors. */
static int own_cut(const struct units *u, enum flat sort)
{
    const struct coords *at = &u->plan->ranks[u->rank];
    return sort == FLAT_EXPERT ? at->etp : at->tp;
}

/* The rank with that cut of what this one holds, in that replica. */
static int rank_with(const struct units *u, enum flat sort, int cut, int64_t replica)
{
    const struct axes *a = &u->plan->axes;
    struct coords at = u->plan->ranks[u->rank];
    if (sort == FLAT_EXPERT) {
        at.etp = cut;
        at.edp = (int)replica;
        return layout_expert_rank(a, &at);
    }
    at.tp = cut;
    at.dp = (int)(replica / a->cp);
    at.cp = (int)(replica % a->cp);
    return layout_dense_rank(a, &at);
}

static int replica_of(const struct units *u, enum flat sort, int rank)
{
    const struct coords *at = &u->plan->ranks[rank];
    return sort == FLAT_EXPERT ? at->edp : at->dp * (int)u->plan->axes.cp + at->cp;
}

/* ---- what this rank holds ---- */

static void peers_init(struct units *u, enum flat sort)
{
    int64_t cuts = sort == FLAT_EXPERT ? u->plan->axes.etp : u->plan->axes.tp;
    u->peers[sort] = xcalloc(cuts, sizeof *u->peers[sort]);
    for (int i = 0; i < cuts; i++)
        shards_init(&u->peers[sort][i], u->plan, rank_with(u, sort, i, replica_of(u, sort, u->rank)));
}

static void peers_release(struct units *u, enum flat sort)
{
    int64_t cuts = sort == FLAT_EXPERT ? u->plan->axes.etp : u->plan->axes.tp;
    for (int i = 0; i < cuts; i++)
        shards_release(&u->peers[sort][i]);
    free(u->peers[sort]);
}

static void list_held(struct units *u, const struct shards *own)
{
    const struct ckpt_map *l = u->l;
    bool *holds = xcalloc(u->plan->inventory.count, sizeof *holds);
    int most = 0;
    for (int i = 0; i < own->count; i++)
        holds[own->list[i].tensor] = !own->list[i].second;
    for (int i = 0; i < l->count; i++)
        most += holds[l->entries[i].tensor];
    u->held = xcalloc(most, sizeof *u->held);
    for (int i = 0; i < l->count; i++) {
        const struct map_entry *e = &l->entries[i];
        if (!holds[e->tensor])
            continue;
        int64_t *bytes = &u->bytes[sort_of(tensor_of(u, e))];
        u->held[u->held_count++] = (struct held){i, *bytes};
        *bytes += e->bytes;
    }
    free(holds);
}

/* The dense bytes over the groups, to those with the fewest of experts until all have as many. */
static void share_dense(struct units *u)
{
    int64_t ep = u->plan->axes.ep, *total = xmalloc((size_t)ep * sizeof *total);
    memcpy(total, u->expert_bytes, (size_t)ep * sizeof *total);
    pour(total, ep, u->bytes[FLAT_DENSE]);
    u->dense_first = xcalloc(ep + 1, sizeof *u->dense_first);
    for (int64_t i = 0; i < ep; i++)
        u->dense_first[i + 1] = u->dense_first[i] + total[i] - u->expert_bytes[i];
    free(total);
}

/* The group whose share has that dense byte. */
static int dense_group(const struct units *u, int64_t at)
{
    int low = 0, high = (int)u->plan->axes.ep;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (u->dense_first[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The experts of all groups: whatever layer this rank holds some of. */
static void count_experts(struct units *u, const struct shards *own)
{
    const struct plan *p = u->plan;
    bool *layer = xcalloc(p->model.layers, sizeof *layer);
    u->expert_bytes = xcalloc(p->axes.ep, sizeof *u->expert_bytes);
    for (int i = 0; i < own->count; i++)
        if (p->inventory.tensors[own->list[i].tensor].layer >= 0)
            layer[p->inventory.tensors[own->list[i].tensor].layer] = true;
    for (int i = 0; i < u->l->count; i++) {
        const struct tensor *t = tensor_of(u, &u->l->entries[i]);
        if (t->expert >= 0 && layer[t->layer])
            u->expert_bytes[plan_slot_holder(p, t->layer, plan_layer_slot(p, t->layer, t->expert))] +=
                u->l->entries[i].bytes;
    }
    free(layer);
    share_dense(u);
}

void units_init(struct units *u, const struct ckpt_map *l, int rank)
{
    *u = (struct units){.l = l, .plan = l->plan, .rank = rank};
    peers_init(u, FLAT_DENSE);
    peers_init(u, FLAT_EXPERT);
    list_held(u, &u->peers[FLAT_DENSE][own_cut(u, FLAT_DENSE)]);
    count_experts(u, &u->peers[FLAT_DENSE][own_cut(u, FLAT_DENSE)]);
}

void units_release(struct units *u)
{
    peers_release(u, FLAT_DENSE);
    peers_release(u, FLAT_EXPERT);
    free(u->held);
    free(u->expert_bytes);
    free(u->dense_first);
    free(u->now.segments);
    free(u->list);
    *u = (struct units){0};
}

/* ---- who writes ---- */

/* Of 4 MiB at least, and as many for each rank of the group; or, where there are not enough bytes for that,
 * of 8 MiB for some of them. */
static int64_t slot_count(int64_t bytes, int64_t ranks)
{
    int64_t n = max64(1, ceil_div(bytes, SLOT_BYTES));
    return 2 * n >= ranks ? round_up(n, ranks) : n;
}

/* Who writes byte `at` of the dense bytes or of the experts', and where among them that one's slot ends. */
static int64_t slot_end(const struct units *u, enum flat sort, int64_t at, int *writer)
{
    const struct axes *a = &u->plan->axes;
    int64_t ranks = a->etp * a->edp, begin, bytes;
    struct coords of = u->plan->ranks[u->rank];
    if (sort == FLAT_DENSE)
        of.ep = dense_group(u, at);
    int64_t experts = u->expert_bytes[of.ep], first = u->dense_first[of.ep];
    int64_t share = u->dense_first[of.ep + 1] - first;
    int64_t before = sort == FLAT_DENSE ? experts - first : 0; /* from `at` to the place in the group's bytes */
    int64_t slots = slot_count(experts + share, ranks), slot = even_index(experts + share, slots, at + before);
    even_part(experts + share, slots, slot, &begin, &bytes);
    int64_t turn = slots < ranks ? slot * ranks / slots : slot % ranks;
    of.etp = (int)(turn % a->etp);
    of.edp = (int)(turn / a->etp);
    *writer = layout_expert_rank(a, &of);
    return min64(begin + bytes - before, u->bytes[sort]);
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
    int64_t end = 0;
    n->count = 0;
    n->bytes = 0;
    for (; u->next < u->held_count; u->next++, u->row = 0) {
        const struct held *h = &u->held[u->next];
        const struct map_entry *e = &u->l->entries[h->entry];
        const struct segment *last = n->count ? &n->segments[n->count - 1] : NULL;
        int64_t row = row_bytes(u->l, e), left = tensor_of(u, e)->rows - u->row;
        int64_t row_end = h->at + (u->row + 1) * row;
        if (last && (h->entry != last->entry + 1 || e->file != n->file || row_end > end))
            break;
        if (!last) {
            n->file = e->file;
            n->offset = u->l->files[e->file].header + e->begin + u->row * row;
            end = slot_end(u, sort_of(tensor_of(u, e)), row_end - 1, &n->writer);
        }
        int64_t rows = min64(left, (end - h->at) / row - u->row);
        *new_segment(n) = (struct segment){
            .entry = h->entry, .row = u->row, .rows = rows, .at = n->bytes, .bytes = rows * row};
        n->bytes += rows * row;
        u->row += rows;
        if (rows < left)
            break;
    }
    return n->count ? n : NULL;
}

/* ---- who gives what ---- */

/* The part of the tensor that this rank counts, or NULL. */
static const struct shard *counted_shard(const struct shards *s, int tensor)
{
    const struct shard *h = shards_find(s, tensor);
    return h && h->counted ? h : NULL;
}

/* `rank` gives these elements of c. */
static void add_contribution(struct units *u, struct contribution c, int rank, struct slice x)
{
    c.rank = rank;
    c.first = x.first;
    c.count = x.count;
    if (u->list_count == u->list_room) {
        u->list_room = u->list_room ? 2 * u->list_room : 64;
        u->list = xrealloc(u->list, u->list_room, sizeof *u->list);
    }
    u->list[u->list_count++] = c;
}

/* What the ranks with this cut give to a segment: all of them, or this rank alone. Returns elements. */
static int64_t offer(struct units *u, const struct unit *unit, int segment, int cut, bool all)
{
    const struct segment *g = &unit->segments[segment];
    const struct map_entry *e = &u->l->entries[g->entry];
    enum flat sort = sort_of(tensor_of(u, e));
    const struct shards *s = &u->peers[sort][cut];
    const struct shard *h = counted_shard(s, e->tensor);
    if (!h)
        return 0;
    int64_t row = max64(g->row, h->row), row_end = min64(g->row + g->rows, h->row + h->rows);
    int64_t first = h->offset + (row - h->row) * h->cols, end = h->offset + (row_end - h->row) * h->cols;
    if (first >= end)
        return 0;
    struct contribution one = {.segment = segment, .shard = h};
    struct slice x = {.first = first, .count = end - first};
    if (e->state == WEIGHTS || s->cuts[sort] == 1) {
        int replica = replica_of(u, sort, unit->writer);
        if (!all && replica != s->replica[sort])
            return 0;
        add_contribution(u, one, rank_with(u, sort, cut, replica), x);
        return end - first;
    }
    x = (struct slice){0};
    while (!all && shards_next(s, sort, first, end, &x))
        add_contribution(u, one, u->rank, x);
    for (int64_t at = first; all && at < end; at += x.count) {
        int replica = shards_owner(s, sort, at, end, &x);
        add_contribution(u, one, rank_with(u, sort, cut, replica), x);
    }
    return end - first;
}

static int by_rank(const void *a, const void *b)
{
    const struct contribution *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->segment != y->segment ? x->segment - y->segment : (x->first > y->first) - (x->first < y->first);
}

/* Everyone's part of a segment must make the whole. */
static int offer_all(struct units *u, const struct unit *unit, int segment)
{
    const struct segment *g = &unit->segments[segment];
    const struct tensor *t = tensor_of(u, &u->l->entries[g->entry]);
    int64_t cuts = t->expert >= 0 ? u->plan->axes.etp : u->plan->axes.tp, have = 0;
    char name[160];
    for (int cut = 0; cut < cuts; cut++)
        have += offer(u, unit, segment, cut, true);
    if (have == g->rows * t->cols)
        return 0;
    return error(STATUS_USAGE, "plan: its ranks hold %lld of %lld elements of rows %lld-%lld of '%s'",
                 (long long)have, (long long)(g->rows * t->cols), (long long)g->row,
                 (long long)(g->row + g->rows - 1), map_entry_name(u->l, &u->l->entries[g->entry], name));
}

int units_parts(struct units *u, const struct unit *unit)
{
    int rc = 0;
    u->list_count = 0;
    for (int i = 0; i < unit->count; i++) {
        const struct map_entry *e = &u->l->entries[unit->segments[i].entry];
        if (unit->writer != u->rank)
            offer(u, unit, i, own_cut(u, sort_of(tensor_of(u, e))), false);
        else if (offer_all(u, unit, i) < 0)
            rc = -1;
    }
    if (unit->writer == u->rank && u->list_count)
        qsort(u->list, u->list_count, sizeof *u->list, by_rank);
    return rc;
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
