/* SPDX-License-Identifier: MIT */
/* Units from the ranks of a node that read them to those that want them.
 *
 * Every rank walks the node's units in one order. It sends pieces of what it has read, never more than SENDS
 * messages ahead of their arrival, and has at most RECEIVES on their way to it. This cannot deadlock, as a save
 * cannot (save_units.c): whoever waits, waits for a rank that is at a lower unit. */
#include "ckpt/load.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/copy.h"
#include "base/crew.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "ckpt/load_memory.h"
#include "ckpt/load_read.h"
#include "comm/host.h"
#include "tensors/hfdir.h"
#include "tensors/sum.h"

/* Hands: two keep a disk busy where there is one processor, and more than there are processors slow what comes
 * from the page cache down. */
enum { SENDS = 8, RECEIVES = 8, LENT = 4, HANDS = 4, SLOTS = 2 * HANDS, BUFFERS = HANDS + SLOTS + LENT };

/* A message from a unit's buffer, or from a buffer of its own. */
struct load_send {
    struct comm_request *request;
    char *buffer;
    int64_t room;
};

/* A unit of this rank's. */
struct load_job {
    struct crew_job job;
    struct read_unit read;
    char *buffer; /* of units that the main thread sends or uploads; others are read into the hand's */
    bool skipped; /* as the load has failed already */
};

/* A buffer that messages are sent from. */
struct load_lent {
    char *buffer;
    int64_t until; /* the messages sent when it was done with */
};

/* What a thread of the crew has for itself. */
struct load_hand {
    struct read_file file;
    char *buffer; /* stays in the processor's cache */
    struct load_pieces pieces;
    char *packed;
    int64_t packed_room;
};

struct load_receive {
    struct comm_request *request;
    char *buffer;
    int64_t room;
    struct load_pieces pieces; /* what is in it */
};

struct loader {
    const struct rank_state *s;
    struct comm *comm;
    struct group *world;
    const char *dir;
    const int *ranks; /* [count], the node's; this one's place among them */
    int count, own;
    struct catalog c;
    struct load_units u;
    struct load_memory memory;
    struct crew *crew;
    struct load_hand hands[HANDS]; /* the first is this thread's */
    int64_t next;                  /* of u.list: where to look for what the crew gets next */
    atomic_bool stopped;           /* what is left is not to be read any more */
    struct problems problems;
    uint32_t crc; /* of the range that is being checked, so far */
    struct load_send sends[SENDS];
    int64_t sent, arrived; /* messages */
    char *block;           /* BUFFERS of unit_room(): those of hands, slots and lents */
    struct load_lent lents[LENT];
    int64_t lent;
    struct load_receive receives[RECEIVES];
    int next_receive;
    char *converted;
    int64_t converted_room;
};

/* ---- to the device ---- */

/* By this thread, or where memory is open by any. */
static void put(struct loader *l, void *device, enum type to, const char *from, enum number number,
                int64_t count)
{
    int64_t bytes = count * (int64_t)type_bytes(to);
    void *host = load_memory_at(&l->memory, device);
    bool same = (to == F32 && number == NUMBER_F32) || (to == BF16 && number == NUMBER_BF16);
    if (host && same) {
        copy_through(host, from, bytes);
        return;
    }
    if (host) {
        convert(host, to, from, number, count);
        return;
    }
    if (same) {
        l->s->be->upload(l->s->stream, device, from, bytes);
        return;
    }
    char *converted = room_for(&l->converted, &l->converted_room, bytes);
    convert(converted, to, from, number, count);
    l->s->be->upload(l->s->stream, device, converted, bytes);
}

/* A piece, packed, to all that is made of it. */
static void put_piece(struct loader *l, const struct load_piece *p, const char *from)
{
    const struct rank_state *s = l->s;
    enum flat flat = p->shard->flat;
    int64_t first = p->shard->offset + p->first, end = first + p->count; /* in the flat buffer */
    bool f32 = flat == FLAT_BUFFER || s->plan->training.precision == PRECISION_F32;
    enum type type = f32 ? F32 : BF16;
    if (p->targets & TARGET_WEIGHTS)
        put(l, (char *)s->weights[flat] + first * (int64_t)type_bytes(type), type, from, p->number, p->count);
    for (struct slice x = {0}; shards_next(s->shards, flat, first, end, &x);)
        for (int i = 0; i < STATES; i++)
            if (p->targets & TARGET_STATE(i))
                put(l, s->state[i][flat] + x.place, F32, from + (x.first - first) * number_bytes(p->number),
                    p->number, x.count);
}

/* What this rank gets of a unit that it has read. */
static void keep_pieces(struct loader *l, struct load_hand *h, const struct read_unit *r)
{
    load_units_pieces(&l->u, r->unit, l->own, &h->pieces);
    for (int i = 0; i < h->pieces.count; i++) {
        const struct load_piece *p = &h->pieces.list[i];
        int64_t run = piece_run(p);
        char *packed = run < 0 ? room_for(&h->packed, &h->packed_room, piece_bytes(p)) : NULL;
        if (packed)
            piece_pack(p, r->bytes, packed);
        put_piece(l, p, packed ? packed : r->bytes + run);
    }
}

/* ---- what this rank reads ---- */

/* By a thread of the crew. Where memory is open the unit goes there while the processor has it. */
static int do_job(void *with, void *job, int hand)
{
    struct loader *l = with;
    struct load_job *j = job;
    j->skipped = atomic_load(&l->stopped);
    if (j->skipped)
        return 0;
    struct load_hand *h = &l->hands[hand];
    bool others = j->read.unit->shared || !l->memory.open;
    TRY(unit_read(&j->read, &l->c, l->dir, &h->file, others ? j->buffer : h->buffer));
    if (l->memory.open)
        keep_pieces(l, h, &j->read);
    return 0;
}

/* The next unit of this rank's from *at on, which goes on behind it; NULL at the end. */
static const struct load_unit *next_unit(const struct loader *l, int64_t *at)
{
    while (*at < l->u.unit_count)
        if (l->u.list[(*at)++].reader == l->s->rank)
            return &l->u.list[*at - 1];
    return NULL;
}

/* As many units as there are slots for. */
static void give_units(struct loader *l)
{
    const struct load_unit *unit;
    for (int64_t at = l->next; (unit = next_unit(l, &at)); l->next = at) {
        struct load_job *j = crew_slot(l->crew);
        if (!j)
            return;
        j->read.unit = unit;
        j->read.bytes = j->buffer; /* of a unit that is skipped too: those who wait for it are sent some */
        crew_submit(l->crew);
    }
}

/* The name of a file's tensor that begins at this byte. */
static char *tensor_at(const char *path, int64_t at)
{
    struct st_file st;
    char *name = NULL;
    if (st_open(&st, path) < 0)
        return xstrdup("?");
    for (int i = 0; i < st.count && !name; i++)
        if (st.data + st.tensors[i].begin == at && st.tensors[i].end > st.tensors[i].begin)
            name = xstrdup(st.tensors[i].name);
    st_close(&st);
    return name ? name : xstrdup("?");
}

static void note_damage(struct loader *l, const struct catalog_tensor *t, int64_t range, uint32_t should)
{
    int64_t begin = range * t->range;
    char *path = path_join(l->dir, catalog_file(&l->c, t->file)), *name = tensor_at(path, t->at);
    problem(&l->problems,
            "%s: tensor '%s' is damaged: crc32 of %" PRId64 " bytes from byte %" PRId64 " is %08" PRIx32
            ", not %08" PRIx32,
            path, name, min64(t->range, t->bytes - begin), t->at + begin, l->crc, should);
    atomic_store(&l->stopped, true);
    free(name);
    free(path);
}

/* A unit's ranges against their sums. One that is longer than units is put together from several. */
static void check_unit(struct loader *l, const struct load_job *j)
{
    if (j->job.failed) {
        problem(&l->problems, "%s", error_text());
        if (error_status() == STATUS_ENV)
            problem_unreadable(&l->problems);
        atomic_store(&l->stopped, true);
    }
    if (j->job.failed || j->skipped)
        return;
    struct unit_cut cut = {0};
    for (int i = 0; unit_next_cut(&l->c, j->read.unit, &cut); i++) {
        const struct catalog_tensor *t = &l->c.tensors[cut.tensor];
        int64_t range = cut.begin / t->range, end = min64(t->bytes, (range + 1) * t->range);
        if (t->sum < 0)
            continue;
        l->crc = cut.begin % t->range ? sum_join(l->crc, j->read.sums[i], cut.bytes) : j->read.sums[i];
        if (cut.begin + cut.bytes == end && l->crc != l->c.sums[t->sum + range])
            note_damage(l, t, range, l->c.sums[t->sum + range]);
    }
}

/* ---- messages ---- */

static int tag_of(const struct load_unit *n)
{
    return (int)((n->at / 4096 + n->file) % COMM_TAGS);
}

/* Waits for the first message that may still be on its way. */
static int await_send(struct loader *l)
{
    struct load_send *x = &l->sends[l->arrived++ % SENDS];
    struct comm_request *r = x->request;
    x->request = NULL;
    return comm_wait(r, NULL);
}

/* After its messages were sent: the job gets another buffer, whose messages have arrived. */
static int lend(struct loader *l, struct load_job *j)
{
    struct load_lent *x = &l->lents[l->lent++ % LENT];
    while (l->arrived < x->until)
        TRY(await_send(l));
    char *free_now = x->buffer;
    *x = (struct load_lent){j->buffer, l->sent};
    j->buffer = free_now;
    return 0;
}

/* Where pieces lie in the unit when they are one run; NULL when they are not. */
static const char *one_run(const struct load_pieces *x, const char *unit)
{
    int64_t begin = piece_run(&x->list[0]), end = begin;
    for (int i = 0; i < x->count; i++) {
        if (piece_run(&x->list[i]) != end || end < 0)
            return NULL;
        end += piece_bytes(&x->list[i]);
    }
    return unit + begin;
}

static void pack_all(const struct load_pieces *x, const char *unit, char *to)
{
    for (int i = 0; i < x->count; i++) {
        piece_pack(&x->list[i], unit, to);
        to += piece_bytes(&x->list[i]);
    }
}

/* What the node's k-th rank gets. */
static int send_pieces(struct loader *l, const struct read_unit *r, int k)
{
    struct load_pieces *pieces = &l->hands[0].pieces;
    int64_t bytes = load_units_pieces(&l->u, r->unit, k, pieces);
    if (!bytes)
        return 0;
    if (l->sent - l->arrived == SENDS)
        TRY(await_send(l));
    struct load_send *x = &l->sends[l->sent++ % SENDS];
    const char *from = one_run(pieces, r->bytes);
    if (!from) {
        char *to = room_for(&x->buffer, &x->room, bytes);
        pack_all(pieces, r->bytes, to);
        from = to;
    }
    x->request = host_send(l->world, l->ranks[k], tag_of(r->unit), from, bytes);
    return x->request ? 0 : -1;
}

static int hand_out(struct loader *l)
{
    give_units(l);
    struct load_job *j = crew_wait(l->crew);
    check_unit(l, j);
    if (!l->memory.open)
        keep_pieces(l, &l->hands[0], &j->read);
    if (j->read.unit->shared) {
        for (int i = 1; i < l->count; i++)
            TRY(send_pieces(l, &j->read, (l->own + i) % l->count));
        TRY(lend(l, j));
    }
    crew_free(l->crew);
    return 0;
}

static int finish(struct loader *l, struct load_receive *x)
{
    struct comm_request *r = x->request;
    const char *from = x->buffer;
    x->request = NULL;
    if (!r)
        return 0;
    TRY(comm_wait(r, NULL));
    for (int i = 0; i < x->pieces.count; i++) {
        put_piece(l, &x->pieces.list[i], from);
        from += piece_bytes(&x->pieces.list[i]);
    }
    return 0;
}

static int receive(struct loader *l, const struct load_unit *unit)
{
    struct load_pieces *pieces = &l->hands[0].pieces;
    int64_t bytes = load_units_pieces(&l->u, unit, l->own, pieces);
    if (!bytes)
        return 0;
    struct load_receive *x = &l->receives[l->next_receive++ % RECEIVES];
    TRY(finish(l, x));
    struct load_pieces mine = x->pieces; /* they change places */
    x->pieces = *pieces;
    *pieces = mine;
    char *to = room_for(&x->buffer, &x->room, bytes);
    x->request = host_recv(l->world, unit->reader, tag_of(unit), to, bytes);
    return x->request ? 0 : -1;
}

/* ---- the walk ---- */

static int walk(struct loader *l)
{
    int rank = l->s->rank;
    int64_t done = 0;
    for (int64_t i = 0; i < l->u.unit_count; i++) {
        const struct load_unit *unit = &l->u.list[i];
        TRY(unit->reader == rank ? hand_out(l) : receive(l, unit));
        if (rank == 0)
            progress("loading", (done += unit->bytes) >> 20, l->c.bytes >> 20, "MiB");
    }
    for (int i = 0; i < RECEIVES; i++)
        TRY(finish(l, &l->receives[l->next_receive++ % RECEIVES]));
    while (l->arrived < l->sent)
        TRY(await_send(l));
    if (rank == 0)
        progress_end();
    return 0;
}

static size_t block_bytes(void)
{
    return (size_t)round_up(BUFFERS * unit_room(), (int64_t)HUGE_PAGE);
}

/* After a failure of communication messages may still come and go: their memory stays. */
static void release(struct loader *l)
{
    bool keep = comm_fault(l->comm);
    for (int i = 0; i < SENDS && !keep; i++)
        free(l->sends[i].buffer);
    for (int i = 0; i < RECEIVES && !keep; i++) {
        free(l->receives[i].buffer);
        free(l->receives[i].pieces.list);
    }
    if (!keep)
        huge_free(l->block, block_bytes());
    free(l->converted);
    problems_release(&l->problems);
    load_units_release(&l->u);
    catalog_release(&l->c);
}

static void crew_begin(struct loader *l)
{
    struct load_job *j;
    l->crew = crew_start((int)min64(max64(comm_processors(l->comm), 2), HANDS), SLOTS, sizeof *j, do_job, l);
    char *buffer = l->block;
    for (int i = 0; i < HANDS; i++, buffer += unit_room())
        l->hands[i].buffer = buffer;
    for (int i = 0; (j = crew_job(l->crew, i)); i++, buffer += unit_room())
        j->buffer = buffer;
    for (int i = 0; i < LENT; i++, buffer += unit_room())
        l->lents[i].buffer = buffer;
}

static void crew_end(struct loader *l)
{
    struct load_job *j;
    crew_stop(l->crew);
    for (int i = 0; (j = crew_job(l->crew, i)); i++)
        read_unit_release(&j->read);
    crew_release(l->crew);
    for (int i = 0; i < HANDS; i++) {
        read_file_close(&l->hands[i].file);
        free(l->hands[i].pieces.list);
        free(l->hands[i].packed);
    }
}

static int read_all(struct loader *l, bool *agreed)
{
    load_units_init(&l->u, &l->c, l->s->plan, l->ranks, l->count, comm_size(l->comm));
    load_memory_open(&l->memory, l->s);
    crew_begin(l);
    int r = walk(l);
    crew_end(l);
    int closed = load_memory_close(&l->memory);
    return r < 0 ? r : comm_agree(l->comm, closed, agreed);
}

/* ---- who is of the node, and what is there ---- */

/* A job of one process is any rank of a plan's. */
static void find_node(struct loader *l)
{
    bool alone = comm_size(l->comm) == 1;
    l->ranks = alone ? &l->s->rank : comm_local_list(l->comm);
    l->count = alone ? 1 : comm_local_ranks(l->comm);
    while (l->ranks[l->own] != l->s->rank)
        l->own++;
}

/* The node's first rank has it. */
static int share_catalog(struct loader *l)
{
    if (l->count == 1)
        return 0;
    struct group *node = comm_group(l->comm, "node", l->ranks, l->count);
    int r = node ? host_broadcast(node, 0, l->c.counts, sizeof l->c.counts) : -1;
    if (r == 0)
        r = host_broadcast(node, 0, &l->c.bytes, sizeof l->c.bytes);
    for (int i = 0; i < CATALOG_ARRAYS && r == 0; i++) {
        struct catalog_array a = catalog_array(&l->c, i);
        int64_t bytes = l->c.counts[i] * a.element;
        if (l->own > 0)
            *a.p = xcalloc((size_t)max64(bytes, 1), 1);
        r = bytes ? host_broadcast(node, 0, *a.p, (size_t)bytes) : 0;
    }
    comm_group_free(node);
    return r;
}

/* Whether any rank has found damage: 1, with *h. What cannot be read now is not damaged: -1. */
static int hear(struct loader *l, struct heard *h, bool *agreed)
{
    int r = comm_hear(l->comm, problems_error(&l->problems), h);
    if (r != 1 || h->status != STATUS_ENV)
        return r;
    if (comm_rank(l->comm) == 0)
        r = h->rank ? error(h->status, "rank %d: %s", h->rank, h->text) : error(h->status, "%s", h->text);
    return comm_agree(l->comm, r == 1 ? 0 : r, agreed);
}

static int load(struct loader *l, const struct manifest *m, struct heard *h, bool *agreed)
{
    l->block = huge_alloc(block_bytes());
    int r = !l->block     ? error(STATUS_ENV, "no memory to load with")
            : l->own == 0 ? catalog_make(&l->c, l->s->plan, l->dir, m, &l->problems)
                          : 0;
    TRY(comm_agree(l->comm, r, agreed));
    if ((r = hear(l, h, agreed)) != 0)
        return r;
    TRY(share_catalog(l));
    TRY(read_all(l, agreed));
    return hear(l, h, agreed);
}

static struct loader loader_of(const struct rank_state *s, struct comm *c, const char *dir)
{
    struct loader l = {.s = s, .comm = c, .world = comm_world(c), .dir = dir};
    for (int i = 0; i < HANDS; i++)
        l.hands[i].file.file.fd = -1;
    find_node(&l);
    return l;
}

int checkpoint_load(const struct rank_state *s, struct comm *c, const char *dir, const struct manifest *m,
                    struct heard *h, bool *agreed)
{
    struct loader l = loader_of(s, c, dir);
    int r = load(&l, m, h, agreed);
    release(&l);
    return r;
}

static char *list_places(const struct loader *l)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (int64_t i = 0; i < l->c.counts[CATALOG_FILES]; i++) {
        struct stat st = {0};
        char *name = path_join(l->dir, catalog_file(&l->c, (int)i)), *path = path_absolute(name);
        int r = stat(path, &st);
        fprintf(out, "%s: %lld bytes, %d, inode %lld of %lld.%09ld\n", path, (long long)st.st_size, r,
                (long long)st.st_ino, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        free(name);
        free(path);
    }
    fclose(out);
    return text;
}

int checkpoint_import(const struct rank_state *s, struct comm *c, const char *hfdir, char **places,
                      bool *agreed)
{
    struct loader l = loader_of(s, c, hfdir);
    struct heard h;
    int r = load(&l, NULL, &h, agreed);
    if (r == 1) /* a file that has changed since its header was read */
        r = comm_agree(c, comm_rank(c) == 0 ? error(h.status, "rank %d: %s", h.rank, h.text) : 0, agreed);
    if (places)
        *places = r == 0 ? list_places(&l) : NULL;
    release(&l);
    return r;
}

char *checkpoint_seen(const char *hfdir)
{
    struct hf_dir d;
    if (hf_open(&d, hfdir) < 0)
        return NULL;
    char *seen = hf_seen(&d);
    hf_close(&d);
    return seen;
}
