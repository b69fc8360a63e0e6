/* SPDX-License-Identifier: MIT */
/* Units from the ranks that hold them to the ranks that write them.
 *
 * Every rank walks the units in the same order. It sends what it holds, never more than SENDS messages ahead of
 * their arrival, and gathers what it writes, at most GATHERS units at once. This cannot deadlock: consider the
 * lowest unit that any rank waits for. If its writer waits for a piece, the contributor that has not sent it
 * waits for a lower one; if a contributor waits for its writer to receive, the writer waits for a lower one. */
#include "ckpt/save_units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"

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
    return (const char *)(s->state[e->state][flat] + (c->first - s->shards->slice_first[flat]));
}

/* ---- sending ---- */

static int send_unit(struct saver *v, const struct unit *n)
{
    int64_t bytes = 0;
    for (int i = 0; i < v->u.list_count; i++)
        if (v->u.list[i].rank == v->rank)
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
        if (c->rank != v->rank)
            continue;
        copying_add(v, &run, held_at(v, n, c), to, contribution_bytes(v, n, c));
        to += contribution_bytes(v, n, c);
    }
    copying_flush(v, &run);
    out->request = host_send(v->world, n->writer, (int)(n->number % COMM_TAGS), out->buffer, bytes);
    return out->request ? 0 : -1;
}

/* ---- gathering ---- */

/* Keeps the unit and what others give to it, beyond the walk's next step. */
static void keep_unit(struct gathering *g, const struct unit *n, const struct units *u, int rank)
{
    if (g->unit.room < n->count) {
        g->unit.room = n->room;
        g->unit.segments = xrealloc(g->unit.segments, n->room, sizeof *n->segments);
    }
    struct segment *segments = g->unit.segments;
    int room = g->unit.room;
    memcpy(segments, n->segments, n->count * sizeof *segments);
    g->unit = *n;
    g->unit.segments = segments;
    g->unit.room = room;
    if (g->list_room < u->list_count) {
        g->list_room = u->list_count;
        g->list = xrealloc(g->list, g->list_room, sizeof *g->list);
    }
    g->count = g->sender_count = 0;
    for (int i = 0; i < u->list_count; i++)
        if (u->list[i].rank != rank)
            g->list[g->count++] = u->list[i];
}

static void note_sender(struct gathering *g, int rank)
{
    for (int i = 0; i < g->sender_count; i++)
        if (g->senders[i] == rank)
            return;
    if (g->sender_count == g->sender_room) {
        g->sender_room = g->sender_room ? 2 * g->sender_room : 16;
        g->senders = xrealloc(g->senders, g->sender_room, sizeof *g->senders);
        g->requests = xrealloc(g->requests, g->sender_room, sizeof *g->requests);
    }
    g->senders[g->sender_count++] = rank;
}

static int64_t sent_by(const struct saver *v, const struct gathering *g, int rank)
{
    int64_t bytes = 0;
    for (int i = 0; i < g->count; i++)
        if (g->list[i].rank == rank)
            bytes += contribution_bytes(v, &g->unit, &g->list[i]);
    return bytes;
}

/* This rank's own part of a unit it writes. */
static void fill_own(struct saver *v, struct gathering *g)
{
    struct copying run = {0};
    for (int i = 0; i < v->u.list_count; i++) {
        const struct contribution *c = &v->u.list[i];
        if (c->rank != v->rank)
            continue;
        int64_t bytes = contribution_bytes(v, &g->unit, c), at = unit_run(&v->u, &g->unit, c);
        if (at >= 0) {
            copying_add(v, &run, held_at(v, &g->unit, c), g->bytes + at, bytes);
            continue;
        }
        char *packed = room_for(&v->scratch, &v->scratch_room, bytes);
        if (v->s->be->download(v->s->stream, packed, held_at(v, &g->unit, c), bytes) < 0)
            save_failed(v);
        unit_scatter(&v->u, &g->unit, c, packed, g->bytes);
    }
    copying_flush(v, &run);
}

static int open_file(struct saver *v, int file)
{
    if (v->fd_file == file)
        return 0;
    if (v->fd >= 0 && close(v->fd) != 0)
        error_errno("cannot write '%s/%s'", v->dir, v->l.files[v->fd_file].name), save_failed(v);
    char *path = path_join(v->dir, v->l.files[file].name);
    v->fd = open(path, O_WRONLY | O_CLOEXEC);
    v->fd_file = v->fd < 0 ? -1 : file;
    int rc = v->fd < 0 ? error_errno("cannot write '%s'", path) : 0;
    free(path);
    return rc;
}

static int write_unit(struct saver *v, const struct gathering *g)
{
    const struct unit *n = &g->unit;
    if (open_file(v, n->file) < 0)
        return -1;
    v->touched[n->file] = true;
    if (pwrite_all(v->fd, g->bytes, n->bytes, n->offset, v->l.files[n->file].name) < 0)
        return error_prefix("%s", v->dir);
    sync_file_range(v->fd, n->offset, n->bytes,
                    SYNC_FILE_RANGE_WRITE); /* so that the last fsync finds little to do */
    for (int i = 0; i < n->count; i++) {
        const struct segment *x = &n->segments[i];
        if (v->range_count == v->range_room) {
            v->range_room = v->range_room ? 2 * v->range_room : 256;
            v->ranges = xrealloc(v->ranges, v->range_room, sizeof *v->ranges);
        }
        uint32_t crc = (uint32_t)crc32_z(0, (const Bytef *)g->bytes + x->at, x->bytes);
        v->ranges[v->range_count++] =
            (struct range){.entry = x->entry,
                           .crc32 = crc,
                           .begin = x->row * row_bytes(&v->l, &v->l.entries[x->entry]),
                           .bytes = x->bytes};
    }
    return 0;
}

static int finish(struct saver *v, struct gathering *g)
{
    if (!g->busy)
        return 0;
    g->busy = false;
    int rc = 0;
    const char *from = g->incoming;
    for (int k = 0; k < g->sender_count; k++) {
        if (comm_wait(g->requests[k], NULL) < 0)
            rc = -1;
        for (int i = 0; i < g->count && rc == 0; i++) {
            if (g->list[i].rank != g->senders[k])
                continue;
            unit_scatter(&v->u, &g->unit, &g->list[i], from, g->bytes);
            from += contribution_bytes(v, &g->unit, &g->list[i]);
        }
    }
    if (rc == 0 && !v->failed && write_unit(v, g) < 0)
        save_failed(v);
    return rc;
}

static int gather_unit(struct saver *v, const struct unit *n)
{
    struct gathering *g = &v->gathers[v->next_gather++ % GATHERS];
    if (finish(v, g) < 0)
        return -1;
    keep_unit(g, n, &v->u, v->rank);
    int64_t bytes = 0;
    for (int i = 0; i < g->count; i++) {
        note_sender(g, g->list[i].rank);
        bytes += contribution_bytes(v, n, &g->list[i]);
    }
    room_for(&g->bytes, &g->room, n->bytes);
    char *to = room_for(&g->incoming, &g->incoming_room, bytes);
    g->busy = true;
    for (int k = 0; k < g->sender_count; k++) {
        bytes = sent_by(v, g, g->senders[k]);
        g->requests[k] = host_recv(v->world, g->senders[k], (int)(n->number % COMM_TAGS), to, bytes);
        if (!g->requests[k]) {
            g->sender_count = k;
            return -1;
        }
        to += bytes;
    }
    fill_own(v, g);
    return 0;
}

/* ---- the walk ---- */

static void sync_files(struct saver *v)
{
    if (v->fd >= 0 && close(v->fd) != 0 && !v->failed)
        error_errno("cannot write '%s/%s'", v->dir, v->l.files[v->fd_file].name), save_failed(v);
    v->fd = v->fd_file = -1;
    for (int f = 0; f < v->l.file_count && !v->failed; f++) {
        if (!v->touched[f])
            continue;
        char *path = path_join(v->dir, v->l.files[f].name);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || file_sync(fd) != 0)
            error_errno("cannot write '%s'", path), save_failed(v);
        if (fd >= 0)
            close(fd);
        free(path);
    }
}

int save_units(struct saver *v)
{
    int64_t done = 0;
    for (const struct unit *n; (n = units_next(&v->u)); done += n->bytes) {
        if (v->rank == 0)
            progress("writing checkpoint", done >> 20, v->l.bytes >> 20, "MiB");
        if (n->writer != v->rank && !units_touch(&v->u, n, v->rank))
            continue;
        if (units_parts(&v->u, n) < 0) { /* a plan that plan_check() refuses; all who touch the unit see it */
            save_failed(v);
            continue;
        }
        if ((n->writer == v->rank ? gather_unit(v, n) : send_unit(v, n)) < 0)
            return -1;
    }
    for (int i = 0; i < GATHERS; i++)
        if (finish(v, &v->gathers[v->next_gather++ % GATHERS]) < 0)
            return -1;
    for (int i = 0; i < SENDS; i++) {
        struct comm_request *r = v->sends[i].request;
        v->sends[i].request = NULL;
        if (comm_wait(r, NULL) < 0)
            return -1;
    }
    sync_files(v);
    if (v->rank == 0)
        progress_end();
    return 0;
}
