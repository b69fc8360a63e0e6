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

static void append_piece(struct load_pieces *out, struct load_piece p, int64_t first, int64_t count)
{
    if (out->count == out->room) {
        out->room = out->room ? 2 * out->room : 64;
        out->list = xrealloc(out->list, out->room, sizeof *out->list);
    }
    p.first = first;
    p.count = count;
    out->list[out->count++] = p;
}

/* Elements of a shard among elements [from,to) of the tensor; of those whose weights are not wanted here, the
 * rank's slices alone. */
static void add_pieces(const struct shards *s, struct load_pieces *out, const struct shard *h,
                       struct load_piece p, int64_t from, int64_t to)
{
    int64_t first = elements_before(h, p.cols, from), end = elements_before(h, p.cols, to);
    p.shard = h;
    if (p.targets & TARGET_WEIGHTS) {
        if (first < end)
            append_piece(out, p, first, end - first);
        return;
    }
    for (struct slice x = {0}; shards_next(s, h->flat, h->offset + first, h->offset + end, &x);)
        append_piece(out, p, x.first - h->offset, x.count);
}

/* Of bytes [begin,end) of a tensor of the catalog, which begins `base` bytes from the unit's begin. */
static void add_tensor(const struct load_units *u, const struct shards *s, struct load_pieces *out,
                       const struct catalog_tensor *t, int64_t begin, int64_t end, int64_t base)
{
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
            add_pieces(s, out, h, p, from, to);
        if (last && last->second && last->tensor == x->tensor)
            add_pieces(s, out, last, p, from, to);
    }
}

int64_t load_units_pieces(const struct load_units *u, const struct load_unit *unit, int k,
                          struct load_pieces *out)
{
    int64_t bytes = 0, begin = unit->begin, done = 0;
    out->count = 0;
    for (int64_t t = unit->tensor; done < unit->bytes; t++, begin = 0) {
        const struct catalog_tensor *x = &u->c->tensors[t];
        int64_t n = min64(x->bytes - begin, unit->bytes - done);
        add_tensor(u, &u->shards[k], out, x, begin, begin + n, done - begin);
        done += n;
    }
    for (int i = 0; i < out->count; i++)
        bytes += piece_bytes(&out->list[i]);
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

/* Who has been given what so far, and what is being put together: units of one kind, for one reader. */
struct load_turn {
    struct load_pieces pieces; /* of what was asked last */
    int64_t share;             /* what each of the node's is to read, about */
    int64_t *load;             /* [count]: what each is to read so far */
    int k, reader;             /* of the unit: its place in the node, -1: none wants it; and the rank */
    bool shared;               /* what was asked last: wanted by others too */
    int world;
    int64_t orphans; /* units that none wants so far: whose turn it is to check them */
};

/* The node's rank that is to read bytes [begin,end) of a tensor: of those that want some of them and have not
 * read enough, the one that wants most, and `last` before others; else the one that has read least. -1: nobody
 * wants any. */
static int choose_reader(const struct load_units *u, struct load_turn *turn, int64_t tensor, int64_t begin,
                         int64_t end, int last)
{
    const struct load_unit bytes = {.tensor = tensor, .begin = begin, .bytes = end - begin};
    int64_t most = 0;
    int best = -1, least = 0, wanting = 0, wants_it = -1;
    for (int k = 0; k < u->count; k++) {
        int64_t wants = load_units_pieces(u, &bytes, k, &turn->pieces);
        if (wants) {
            wanting++;
            wants_it = k;
        }
        if (turn->load[k] < turn->load[least])
            least = k;
        if (!wants || wants < most || turn->load[k] + bytes.bytes > turn->share)
            continue;
        if (wants > most || k == last || (best != last && turn->load[k] < turn->load[best])) {
            most = wants;
            best = k;
        }
    }
    int chosen = !wanting ? -1 : best < 0 ? least : best;
    turn->shared = wanting > 1 || chosen != wants_it;
    return chosen;
}

static void add_unit(struct load_units *u, struct load_unit unit)
{
    if (u->unit_count == u->room) {
        u->room = u->room ? 2 * u->room : 1024;
        u->list = xrealloc(u->list, u->room, sizeof *u->list);
    }
    u->list[u->unit_count++] = unit;
}

/* Whether a range goes on where the last unit ends, and may be a part of it. */
static bool goes_on(const struct load_units *u, const struct catalog_tensor *t, int64_t begin, int64_t bytes)
{
    const struct load_unit *last = u->unit_count ? &u->list[u->unit_count - 1] : NULL;
    return last && last->file == t->file && last->at + last->bytes == t->at + begin &&
           last->bytes + bytes <= UNIT_BYTES;
}

static void add_range(struct load_units *u, struct load_turn *turn, int64_t tensor, int64_t begin,
                      int64_t bytes)
{
    const struct catalog_tensor *t = &u->c->tensors[tensor];
    bool on = goes_on(u, t, begin, bytes);
    int k = t->parts ? choose_reader(u, turn, tensor, begin, begin + bytes, on ? turn->k : -1) : -1;
    if (t->parts && k < 0)
        return;
    bool shared = k >= 0 && turn->shared;
    if (k >= 0)
        turn->load[k] += bytes;
    if (on && k == turn->k) {
        u->list[u->unit_count - 1].bytes += bytes;
        u->list[u->unit_count - 1].shared |= shared;
        return;
    }
    turn->k = k;
    turn->reader = k >= 0 ? u->ranks[k] : (int)(turn->orphans++ % turn->world);
    for (int64_t done = 0; done < bytes; done += UNIT_BYTES)
        add_unit(u, (struct load_unit){.file = t->file,
                                       .reader = turn->reader,
                                       .tensor = tensor,
                                       .begin = begin + done,
                                       .at = t->at + begin + done,
                                       .bytes = min64(UNIT_BYTES, bytes - done),
                                       .shared = shared});
}

/* Bytes of tensors that any rank of the node may want. */
static int64_t wanted_bytes(const struct load_units *u)
{
    struct load_pieces pieces = {0};
    int64_t sum = 0;
    for (int64_t t = 0; t < u->c->counts[CATALOG_TENSORS]; t++) {
        const struct catalog_tensor *x = &u->c->tensors[t];
        for (int64_t begin = 0; x->parts && begin < x->bytes; begin += x->range) {
            struct load_unit unit = {.tensor = t, .begin = begin, .bytes = min64(x->range, x->bytes - begin)};
            bool wanted = false;
            for (int k = 0; k < u->count && !wanted; k++)
                wanted = load_units_pieces(u, &unit, k, &pieces) > 0;
            sum += wanted ? unit.bytes : 0;
        }
    }
    free(pieces.list);
    return sum;
}

void load_units_init(struct load_units *u, const struct catalog *c, const struct plan *p, const int *ranks,
                     int count, int world)
{
    *u = (struct load_units){.c = c, .plan = p, .ranks = ranks, .count = count};
    u->shards = xcalloc(count, sizeof *u->shards);
    for (int k = 0; k < count; k++)
        shards_init(&u->shards[k], p, ranks[k]);
    struct load_turn turn = {.reader = -1, .k = -1, .world = world, .share = ceil_div(wanted_bytes(u), count)};
    turn.load = xcalloc(count, sizeof *turn.load);
    for (int64_t t = 0; t < c->counts[CATALOG_TENSORS]; t++) {
        const struct catalog_tensor *x = &c->tensors[t];
        for (int64_t begin = 0; begin < x->bytes; begin += x->range)
            add_range(u, &turn, t, begin, min64(x->range, x->bytes - begin));
    }
    free(turn.load);
    free(turn.pieces.list);
}

void load_units_release(struct load_units *u)
{
    for (int k = 0; k < u->count; k++)
        shards_release(&u->shards[k]);
    free(u->shards);
    free(u->list);
    *u = (struct load_units){0};
}
