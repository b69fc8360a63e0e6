/* SPDX-License-Identifier: MIT */
/* Units from the ranks that hold them to the ranks that write them.
 *
 * Every rank walks its units in the order of files and places. It sends what it holds, never more than SENDS
 * messages ahead of their arrival, and gathers what it writes, at most GATHERS units at once. This cannot
 * deadlock: consider the lowest unit that any rank waits for. If its writer waits for a piece, the
 * contributor that has not sent it waits for a lower one; if a contributor waits for its writer to receive,
 * the writer waits for a lower one. */
#include "ckpt/save_units.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "tensors/sum.h"

void save_failed(struct saver *v)
{
    if (v->failed)
        return;
    v->failed = true;
    v->status = error_status();
    snprintf(v->text, sizeof v->text, "%s", error_text());
}

/* ---- from the device ---- */

/* Downloads that follow each other on both sides are made as one. */
struct copying {
    const char *from;
    char *to;
    size_t bytes;
};

static void copying_flush(struct saver *v, struct copying *r)
{
    if (r->bytes && v->s->be->download(v->s->stream, r->to, r->from, r->bytes) < 0)
        save_failed(v);
    r->bytes = 0;
}

static void copying_add(struct saver *v, struct copying *r, const char *from, char *to, size_t bytes)
{
    if (!r->bytes || from != r->from + r->bytes || to != r->to + r->bytes) {
        copying_flush(v, r);
        *r = (struct copying){from, to, 0};
    }
    r->bytes += bytes;
}

static const struct map_entry *entry_of(const struct saver *v, const struct unit *n,
                                        const struct contribution *c)
{
    return &v->l.entries[n->segments[c->segment].entry];
}

static int64_t contribution_bytes(const struct saver *v, const struct unit *n, const struct contribution *c)
{
    return c->count * (int64_t)type_bytes(entry_of(v, n, c)->type);
}

/* Where this rank's contribution lies in device memory. */
static const char *held_at(const struct saver *v, const struct unit *n, const struct contribution *c)
{
    const struct rank_state *s = v->s;
    const struct map_entry *e = entry_of(v, n, c);
    enum flat flat = c->shard->flat;
    if (e->state == WEIGHTS)
        return (v->gradients ? (const char *)v->gradients[flat] : s->weights[flat]) +
               c->first * (int64_t)type_bytes(e->type);
    struct slice x = {0};
    shards_next(s->shards, flat, c->first, c->first + c->count, &x);
    return (const char *)(s->state[e->state][flat] + x.place);
}

/* ---- sending ---- */

/* A message's tag. Order alone makes the messages of two ranks meet; with it, two that disagree about the order
 * wait in vain rather than mix what they have. */
static int tag_of(const struct unit *n)
{
    return (int)((n->offset / 4096 + n->file) % COMM_TAGS);
}

/* v->u.list is what this rank gives. */
static int send_unit(struct saver *v, const struct unit *n)
{
    int64_t bytes = 0;
    for (int i = 0; i < v->u.list_count; i++)
        bytes += contribution_bytes(v, n, &v->u.list[i]);
    if (!bytes)
        return 0;
    struct sending *out = &v->sends[v->next_send++ % SENDS];
    if (comm_wait(out->request, NULL) < 0) {
        out->request = NULL;
        return -1;
    }
    char *to = room_for(&out->buffer, &out->room, bytes);
    struct copying run = {0};
    for (int i = 0; i < v->u.list_count; i++) {
        const struct contribution *c = &v->u.list[i];
        copying_add(v, &run, held_at(v, n, c), to, contribution_bytes(v, n, c));
        to += contribution_bytes(v, n, c);
    }
    copying_flush(v, &run);
    out->request = host_send(v->world, n->writer, tag_of(n), out->buffer, bytes);
    return out->request ? 0 : -1;
}

/* ---- gathering ---- */

/* Keeps what others give to the unit, beyond the walk's next step. */
static void keep_list(struct gathering *g, const struct units *u, int rank)
{
    if (g->list_room < u->list_count) {
        g->list_room = u->list_count;
        g->list = xrealloc(g->list, g->list_room, sizeof *g->list);
    }
    g->count = g->sender_count = 0;
    for (int i = 0; i < u->list_count; i++)
        if (u->list[i].rank != rank)
            g->list[g->count++] = u->list[i];
}

/* The list is in order of ranks. */
static void note_sender(struct saver *v, struct gathering *g, int i)
{
    struct sender *last = g->sender_count ? &g->senders[g->sender_count - 1] : NULL;
    if (!last || last->rank != g->list[i].rank) {
        if (g->sender_count == g->sender_room) {
            g->sender_room = g->sender_room ? 2 * g->sender_room : 16;
            g->senders = xrealloc(g->senders, g->sender_room, sizeof *g->senders);
        }
        last = &g->senders[g->sender_count++];
        *last = (struct sender){.rank = g->list[i].rank, .first = i};
    }
    last->count++;
    last->bytes += contribution_bytes(v, &g->slot->unit, &g->list[i]);
}

/* This rank's own part of a unit it writes. */
static void fill_own(struct saver *v, struct gathering *g)
{
    struct copying run = {0};
    for (int i = 0; i < v->u.list_count; i++) {
        const struct contribution *c = &v->u.list[i];
        if (c->rank != v->rank)
            continue;
        int64_t bytes = contribution_bytes(v, &g->slot->unit, c), at = unit_run(&v->u, &g->slot->unit, c);
        if (at >= 0) {
            copying_add(v, &run, held_at(v, &g->slot->unit, c), g->slot->bytes + at, bytes);
            continue;
        }
        char *packed = room_for(&v->scratch, &v->scratch_room, bytes);
        if (v->s->be->download(v->s->stream, packed, held_at(v, &g->slot->unit, c), bytes) < 0)
            save_failed(v);
        unit_scatter(&v->u, &g->slot->unit, c, packed, g->slot->bytes);
    }
    copying_flush(v, &run);
}

static int finish(struct saver *v, struct gathering *g)
{
    if (!g->busy)
        return 0;
    g->busy = false;
    int rc = 0;
    const char *from = g->incoming;
    for (int k = 0; k < g->sender_count; k++) {
        const struct sender *s = &g->senders[k];
        if (comm_wait(s->request, NULL) < 0)
            rc = -1;
        for (int i = s->first; i < s->first + s->count && rc == 0; i++) {
            unit_scatter(&v->u, &g->slot->unit, &g->list[i], from, g->slot->bytes);
            from += contribution_bytes(v, &g->slot->unit, &g->list[i]);
        }
    }
    writer_give(&v->writer);
    return rc;
}

/* v->u.list is what everyone gives. */
static int gather_unit(struct saver *v, const struct unit *n)
{
    struct gathering *g = &v->gathers[v->next_gather++ % GATHERS];
    if (finish(v, g) < 0)
        return -1;
    g->slot = writer_take(&v->writer, n);
    keep_list(g, &v->u, v->rank);
    for (int i = 0; i < g->count; i++)
        note_sender(v, g, i);
    int64_t bytes = 0;
    for (int k = 0; k < g->sender_count; k++)
        bytes += g->senders[k].bytes;
    char *to = room_for(&g->incoming, &g->incoming_room, bytes);
    g->busy = true;
    for (int k = 0; k < g->sender_count; k++) {
        struct sender *s = &g->senders[k];
        s->request = host_recv(v->world, s->rank, tag_of(n), to, s->bytes);
        if (!s->request) {
            g->sender_count = k;
            return -1;
        }
        to += s->bytes;
    }
    fill_own(v, g);
    return 0;
}

/* ---- the walk ---- */

static int walk_units(struct saver *v)
{
    int64_t done = 0, all = max64(1, v->u.bytes[FLAT_DENSE] + v->u.bytes[FLAT_EXPERT]);
    for (const struct unit *n; (n = units_next(&v->u)); done += n->bytes) {
        if (v->rank == 0) /* which sees its own part of the files, and takes it for the whole */
            progress("writing checkpoint", (int64_t)((double)done / (double)all * (double)v->l.bytes) >> 20,
                     v->l.bytes >> 20, "MiB");
        if (units_parts(&v->u, n) <
            0) /* a plan that plan_check() refuses: what comes is received, not written */
            save_failed(v);
        if ((n->writer == v->rank ? gather_unit(v, n) : send_unit(v, n)) < 0)
            return -1;
    }
    return 0;
}

int64_t save_share(const struct ckpt_map *l, int rank, int *units, int64_t **sizes)
{
    struct units u;
    int64_t bytes = 0, *list = NULL;
    *units = 0;
    units_init(&u, l, rank);
    for (const struct unit *n; (n = units_next(&u));) {
        if (n->writer != rank)
            continue;
        if ((*units & (*units + 1)) == 0)
            list = xrealloc(list, 2 * (size_t)*units + 2, sizeof *list);
        list[(*units)++] = n->bytes;
        bytes += n->bytes;
    }
    units_release(&u);
    if (sizes)
        *sizes = list;
    else
        free(list);
    return bytes;
}

int save_units(struct saver *v)
{
    if (walk_units(v) < 0)
        return -1;
    for (int i = 0; i < GATHERS; i++)
        if (finish(v, &v->gathers[v->next_gather++ % GATHERS]) < 0)
            return -1;
    for (int i = 0; i < SENDS; i++) {
        struct comm_request *r = v->sends[i].request;
        v->sends[i].request = NULL;
        if (comm_wait(r, NULL) < 0)
            return -1;
    }
    writer_close(&v->writer);
    if (v->rank == 0)
        progress_end();
    return 0;
}

/* ---- the checksums ---- */

static int by_place(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->entry != y->entry)
        return x->entry < y->entry ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Whether b goes on where a ends, in the same range of the manifest's. */
static bool adjoins(const struct range *a, const struct range *b)
{
    return a->entry == b->entry && a->begin + a->bytes == b->begin && b->begin % RANGE_BYTES;
}

/* Sorted, and those that adjoin made one. */
static void join_ranges(struct saver *v)
{
    struct range *list = v->writer.ranges;
    int count = 0;
    if (v->writer.range_count)
        qsort(list, v->writer.range_count, sizeof *list, by_place);
    for (int i = 0; i < v->writer.range_count; i++) {
        struct range *last = count ? &list[count - 1] : NULL;
        if (last && adjoins(last, &list[i])) {
            last->crc32 = sum_join(last->crc32, list[i].crc32, list[i].bytes);
            last->bytes += list[i].bytes;
        } else {
            list[count++] = list[i];
        }
    }
    v->writer.range_count = count;
}

static int wait_for(struct comm_request *r)
{
    return r ? comm_wait(r, NULL) : -1;
}

static int send_ranges(struct saver *v, int to)
{
    int64_t count = v->writer.range_count;
    int rc = wait_for(host_send(v->world, to, 0, &count, sizeof count));
    if (rc == 0 && count)
        rc = wait_for(host_send(v->world, to, 0, v->writer.ranges, count * sizeof *v->writer.ranges));
    v->writer.range_count = 0;
    return rc;
}

static int receive_ranges(struct saver *v, int from)
{
    int64_t count;
    if (wait_for(host_recv(v->world, from, 0, &count, sizeof count)) < 0)
        return -1;
    if (!count)
        return 0;
    v->writer.range_room = (int)(v->writer.range_count + count);
    v->writer.ranges = xrealloc(v->writer.ranges, v->writer.range_room, sizeof *v->writer.ranges);
    if (wait_for(host_recv(v->world, from, 0, v->writer.ranges + v->writer.range_count,
                           count * sizeof *v->writer.ranges)) < 0)
        return -1;
    v->writer.range_count += (int)count;
    join_ranges(v);
    return 0;
}

/* A rank waits for r+1, r+2, r+4, … as far as its lowest bit, and then sends to r without that bit. */
int save_gather_ranges(struct saver *v)
{
    join_ranges(v);
    for (int bit = 1; bit < v->size; bit *= 2) {
        if (v->rank & bit)
            return send_ranges(v, v->rank - bit);
        if (v->rank + bit < v->size && receive_ranges(v, v->rank + bit) < 0)
            return -1;
    }
    return 0;
}
