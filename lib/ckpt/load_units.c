/* SPDX-License-Identifier: MIT */
#include "ckpt/load_units.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"

/* ---- what a rank gets ---- */

/* How many elements of the shard come before this one of the tensor. */
static int64_t elements_before(const struct shard *h, int64_t cols, int64_t at)
{
    int64_t row = at / cols - h->row, col = at % cols - h->col;
    if (row < 0)
        return 0;
    if (row >= h->rows)
        return h->rows * h->cols;
    return row * h->cols + min64(max64(col, 0), h->cols);
}

static void append_piece(struct load_units *u, struct load_piece p, int64_t first, int64_t count)
{
    if (u->piece_count == u->piece_room) {
        u->piece_room = u->piece_room ? 2 * u->piece_room : 64;
        u->pieces = xrealloc(u->pieces, u->piece_room, sizeof *u->pieces);
    }
    p.first = first;
    p.count = count;
    u->pieces[u->piece_count++] = p;
}

/* Elements of a shard among elements [from,to) of the tensor; of those whose weights are not wanted here, the
 * rank's slices alone. */
static void add_pieces(struct load_units *u, int k, const struct shard *h, struct load_piece p, int64_t from,
                       int64_t to)
{
    int64_t first = elements_before(h, p.cols, from), end = elements_before(h, p.cols, to);
    p.shard = h;
    if (p.targets & TARGET_WEIGHTS) {
        if (first < end)
            append_piece(u, p, first, end - first);
        return;
    }
    for (struct slice x = {0}; shards_next(&u->shards[k], h->flat, h->offset + first, h->offset + end, &x);)
        append_piece(u, p, x.first - h->offset, x.count);
}

/* Of bytes [begin,end) of a tensor of the catalog, which begins `base` bytes from the unit's begin. */
static void add_tensor(struct load_units *u, int k, const struct catalog_tensor *t, int64_t begin, int64_t end,
                       int64_t base)
{
    const struct shards *s = &u->shards[k];
    const struct shard *last = s->count ? &s->list[s->count - 1] : NULL;
    for (int64_t i = t->first; i < t->first + t->parts; i++) {
        const struct catalog_part *x = &u->c->parts[i];
        const struct tensor *of = &u->plan->inventory.tensors[x->tensor];
        int64_t size = number_bytes(x->number), whole = of->rows * of->cols;
        int64_t from = max64((begin - x->offset) / size, 0), to = min64((end - x->offset) / size, whole);
        if (end <= x->offset || from >= to)
            continue;
        struct load_piece p = {
            .cols = of->cols, .base = base + x->offset, .number = x->number, .targets = x->targets};
        const struct shard *h = shards_find(s, x->tensor);
        if (h)
            add_pieces(u, k, h, p, from, to);
        if (last && last->second && last->tensor == x->tensor)
            add_pieces(u, k, last, p, from, to);
    }
}

int64_t load_units_pieces(struct load_units *u, const struct load_unit *unit, int k)
{
    int64_t bytes = 0, begin = unit->begin, done = 0;
    u->piece_count = 0;
    for (int64_t t = unit->tensor; done < unit->bytes; t++, begin = 0) {
        const struct catalog_tensor *x = &u->c->tensors[t];
        int64_t n = min64(x->bytes - begin, unit->bytes - done);
        add_tensor(u, k, x, begin, begin + n, done - begin);
        done += n;
    }
    for (int i = 0; i < u->piece_count; i++)
        bytes += piece_bytes(&u->pieces[i]);
    return bytes;
}

int64_t piece_run(const struct load_piece *p)
{
    const struct shard *h = p->shard;
    return h->cols == p->cols ? p->base + (h->row * h->cols + p->first) * number_bytes(p->number) : -1;
}

void piece_pack(const struct load_piece *p, const char *unit, char *to)
{
    const struct shard *h = p->shard;
    int64_t size = number_bytes(p->number), run = piece_run(p);
    if (run >= 0) {
        memcpy(to, unit + run, p->count * size);
        return;
    }
    /* Rows of the shard, the first and the last of them perhaps in part. */
    for (int64_t at = p->first, end = at + p->count; at < end;) {
        int64_t row = at / h->cols, col = at % h->cols, n = min64(h->cols - col, end - at);
        memcpy(to, unit + p->base + ((h->row + row) * p->cols + h->col + col) * size, n * size);
        to += n * size;
        at += n;
    }
}

/* ---- who reads what ---- */

/* Whether a rank of the node wants some of bytes [begin,end) of a tensor. */
static bool is_wanted(struct load_units *u, int64_t tensor, int64_t begin, int64_t end)
{
    struct load_unit bytes = {.tensor = tensor, .begin = begin, .bytes = end - begin};
    for (int k = 0; k < u->count; k++)
        if (load_units_pieces(u, &bytes, k))
            return true;
    return false;
}

/* The rank that has the least to read. */
static int next_reader(const struct load_units *u)
{
    int least = 0;
    for (int k = 1; k < u->count; k++)
        if (u->load[k] < u->load[least])
            least = k;
    return least;
}

static void add_unit(struct load_units *u, struct load_unit unit)
{
    if (u->unit_count == u->room) {
        u->room = u->room ? 2 * u->room : 1024;
        u->list = xrealloc(u->list, u->room, sizeof *u->list);
    }
    u->list[u->unit_count++] = unit;
}

/* What is being put together: units of one kind, for one reader. */
struct load_turn {
    int reader, k;   /* the rank, and its place in the node; -1: of another one */
    bool wanted;     /* or to be checked alone */
    int64_t orphans; /* units of that kind so far: whose turn it is */
};

/* Whether a range goes on where the last unit ends, and into it. */
static bool goes_on(const struct load_units *u, const struct load_turn *turn, const struct catalog_tensor *t,
                    int64_t begin, int64_t bytes, bool wanted)
{
    const struct load_unit *last = u->unit_count ? &u->list[u->unit_count - 1] : NULL;
    return last && turn->wanted == wanted && last->file == t->file && last->at + last->bytes == t->at + begin &&
           last->reader == turn->reader && last->bytes + bytes <= UNIT_BYTES;
}

static void add_range(struct load_units *u, struct load_turn *turn, int world, int64_t tensor, int64_t begin,
                      int64_t bytes)
{
    const struct catalog_tensor *t = &u->c->tensors[tensor];
    bool wanted = t->parts > 0;
    if (wanted && !is_wanted(u, tensor, begin, begin + bytes))
        return;
    if (!goes_on(u, turn, t, begin, bytes, wanted)) {
        turn->wanted = wanted;
        turn->k = wanted ? next_reader(u) : -1;
        turn->reader = wanted ? u->ranks[turn->k] : (int)(turn->orphans++ % world);
        for (int64_t done = 0; done < bytes; done += UNIT_BYTES)
            add_unit(u, (struct load_unit){.file = t->file,
                                           .reader = turn->reader,
                                           .tensor = tensor,
                                           .begin = begin + done,
                                           .at = t->at + begin + done,
                                           .bytes = min64(UNIT_BYTES, bytes - done)});
    } else {
        u->list[u->unit_count - 1].bytes += bytes;
    }
    if (wanted)
        u->load[turn->k] += bytes;
}

void load_units_init(struct load_units *u, const struct catalog *c, const struct plan *p, const int *ranks,
                     int count, int world)
{
    *u = (struct load_units){.c = c, .plan = p, .ranks = ranks, .count = count};
    u->shards = xcalloc(count, sizeof *u->shards);
    u->load = xcalloc(count, sizeof *u->load);
    for (int k = 0; k < count; k++)
        shards_init(&u->shards[k], p, ranks[k]);
    struct load_turn turn = {.reader = -1};
    for (int64_t t = 0; t < c->counts[CATALOG_TENSORS]; t++) {
        const struct catalog_tensor *x = &c->tensors[t];
        for (int64_t begin = 0; begin < x->bytes; begin += x->range)
            add_range(u, &turn, world, t, begin, min64(x->range, x->bytes - begin));
    }
}

void load_units_release(struct load_units *u)
{
    for (int k = 0; k < u->count; k++)
        shards_release(&u->shards[k]);
    free(u->shards);
    free(u->load);
    free(u->list);
    free(u->pieces);
    *u = (struct load_units){0};
}
