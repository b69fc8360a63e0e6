/* SPDX-License-Identifier: MIT */
/* Dispatch and combine: rows to the ranks that hold their experts, results back.
 *
 * The experts of one ep rank are cut over its etp group. A row goes to the holder with the sender's own etp
 * coordinate (all-to-all over ep) and from there to the others of that etp group (all-gather), so it crosses
 * the network once. The order of sending is by slot, so what goes to one holder is one run, and so is what
 * comes from one source: an exchange is one piece a peer. A row that has a weight carries it at its end (struct
 * wire).
 *
 * What came from one source is by expert, and the products want one run an expert: `regroup` moves the rows, by
 * local expert, then etp rank, then ep rank of the sender, on the device and from counts on the device.
 * (Products over the pieces of every source would save the copy, a hundredth of their time, and take half as
 * long again with 32 rows a piece, twice as long with 8.) The host knows the counts only to say how long the
 * messages are. With ep = 1 it need not: what an etp rank sends is then reserved in full, n·K rows, and travels
 * so.
 *
 * A holder that gets more rows than the plan reserved (C) takes them in several passes: pass p is rows [p·C,
 * (p+1)·C) of its order, of each source again one run.
 *
 * Two ranks, ep = 2, etp = 1, four slots: 0 and 1 at rank 0, 2 and 3 at rank 1. How many rows go to each slot:
 *
 *   slot                       0  1  2  3
 *   of rank 0                  1  2  0  3      send_first 0 1 3 3 6      landing 0 3 0 1
 *   of rank 1                  2  0  1  1      send_first 0 2 2 3 4      landing 1 5 0 4
 *
 *   rows at rank 0   slot 0 of rank 0, 1; slot 1 of rank 0, 1      segment 0 1 3 5 5
 *   rows at rank 1   slot 2 of rank 0, 1; slot 3 of rank 0, 1      segment 0 0 1 4 5
 *
 * With C = 4, five rows take two passes. Rank 0's two rows for slot 1 land at 3 and 4 of rank 0: the first goes
 * in pass 0 to its row 3, the other in pass 1 to its row 0. So rank 0 sends itself rows 0 and 1 in pass 0 and
 * row 2 in pass 1. */
#include "engine/dispatch.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "plan/slots.h"

static int64_t local_experts(const struct engine *e, const struct layer *w)
{
    return w->slot[e->at.ep + 1] - w->slot[e->at.ep];
}

static int sources(const struct engine *e)
{
    return e->ep * e->etp;
}

/* Rows as they travel: H elements and, where they have one, their weight in the last four bytes. */
struct wire {
    char *p;
    size_t bytes;    /* from one row to the next */
    int64_t ld, ldw; /* the same, in elements and in floats */
    float *weight;   /* of the first row, or NULL */
};

static struct wire wire_at(const struct engine *e, void *p, bool weighted)
{
    size_t bytes = weighted ? (size_t)e->arena.wire_bytes : (size_t)e->H * type_bytes(e->type);
    return (struct wire){.p = p,
                         .bytes = bytes,
                         .ld = (int64_t)(bytes / type_bytes(e->type)),
                         .ldw = (int64_t)(bytes / sizeof(float)),
                         .weight = weighted ? (float *)((char *)p + bytes) - 1 : NULL};
}

/* This rank's rows on their way out, and on their way back. With ep = 1 both are its block of the wire. */
static struct wire own_rows(const struct engine *e, void *elsewhere, bool weighted)
{
    struct wire w = wire_at(e, e->ep > 1 ? elsewhere : e->ws->wire, weighted);
    return e->ep > 1 ? w : wire_at(e, w.p + (size_t)(e->at.etp * e->n * e->K) * w.bytes, weighted);
}

void dispatch_init(struct engine *e, struct dispatch *d)
{
    d->send_first = xcalloc(e->E + 1, sizeof *d->send_first);
    d->landing = xcalloc(e->E, sizeof *d->landing);
    d->segment = xcalloc(plan_most_slots(e->plan) * sources(e) + 1, sizeof *d->segment);
}

void dispatch_release(struct dispatch *d)
{
    free(d->send_first);
    free(d->landing);
    free(d->segment);
}

/* ---- beside what the engine computes ----
 *
 * With overlap all that the ep and etp groups send each other is in the stream e->rows: leave() begins a piece
 * of it behind what s has queued so far, land() ends it, and s waits for the event with await() before it takes
 * what has come. Everything there is in order, so that s need not wait for one piece if it waits for a later
 * one. Without overlap all is in s. */

static struct stream *leave(struct engine *e, bool ordered)
{
    if (!e->overlap)
        return e->s;
    e->be->event_record(e->packed, e->s);
    if (ordered)
        e->be->event_wait(e->rows, e->packed);
    profile_begin(&e->profile, e->rows);
    return e->rows;
}

static void land(struct engine *e, struct stream *s, struct event *there)
{
    if (e->overlap)
        profile_end(&e->profile, s);
    e->be->event_record(there, s);
}

static void await(struct engine *e, struct event *there, enum phase phase, bool ordered)
{
    if (!e->overlap)
        return;
    enum phase before = profile_join(&e->profile, phase, e->rows);
    if (ordered)
        e->be->event_wait(e->s, there);
    profile_enter(&e->profile, before);
}

/* ---- the steps ---- */

static int gather_counts(struct engine *e, struct stream *s)
{
    struct workspace *ws = e->ws;
    size_t bytes = (size_t)e->E * 4;
    int32_t *mine = ws->all_counts + (int64_t)e->at.etp * e->ep * e->E;
    TRY(all_gather(e->group[GROUP_EP], s, ws->counts, mine, bytes));
    return e->etp > 1 ? all_gather(e->group[GROUP_ETP], s, mine, ws->all_counts, bytes * (size_t)e->ep) : 0;
}

int dispatch_counts(struct engine *e, const struct layer *w, struct acts *a)
{
    if (sources(e) == 1)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    struct stream *s = leave(e, !left_out("choices-not-awaited"));
    TRY(gather_counts(e, s));
    /* Columns of counts, which are as wide as floats. */
    e->be->copy_rows(s, &OP(copy_rows, .rows = sources(e), .width = local_experts(e, w),
                            .x = e->ws->all_counts + w->slot[e->at.ep], .ldx = e->E, .y = a->arrived,
                            .ldy = local_experts(e, w), .type = F32));
    land(e, s, e->routed);
    if (e->ep > 1 && !left_out("counts-not-awaited"))
        e->be->event_wait(e->side, e->routed);
    profile_enter(&e->profile, before);
    return 0;
}

void dispatch_pack(struct engine *e, struct acts *a, const void *x, void *rows, float *weight)
{
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    struct permute op =
        OP(permute, .tokens = e->n, .rows = e->n * e->K, .width = e->H, .top_k = e->K, .count = a->first + e->E,
           .x = x, .source = a->source, .y = rows, .ldy = e->H, .weight_in = weight ? a->weight : NULL,
           .weight_out = weight, .ldw = 1, .type = e->type);
    if (sources(e) == 1) {
        op.rows = e->arena.row_capacity;
    } else {
        struct wire w = own_rows(e, e->ws->send, weight);
        op.y = w.p;
        op.ldy = w.ld;
        op.weight_out = w.weight;
        op.ldw = w.ldw;
    }
    e->be->permute(e->s, &op);
    profile_enter(&e->profile, before);
}

/* The tables of one holder, and how many rows it gets. */
static int64_t route_holder(struct engine *e, const struct layer *w, struct dispatch *d, int holder)
{
    int64_t at = 0, *segment = holder == e->at.ep ? d->segment : NULL;
    for (int64_t k = w->slot[holder]; k < w->slot[holder + 1]; k++)
        for (int j = 0; j < e->etp; j++)
            for (int i = 0; i < e->ep; i++) {
                if (j == e->at.etp && i == e->at.ep)
                    d->landing[k] = at;
                if (segment)
                    *segment++ = at;
                at += e->counts[((int64_t)j * e->ep + i) * e->E + k];
            }
    if (segment)
        *segment = at;
    return at;
}

int dispatch_route(struct engine *e, const struct layer *w, struct dispatch *d)
{
    d->passes = 1;
    d->weights_done = false;
    if (sources(e) == 1)
        return 0;
    enum phase before = profile_join(&e->profile, PHASE_DISPATCH, e->rows);
    size_t bytes = (size_t)(sources(e) * e->E) * sizeof *e->counts;
    if (e->ep > 1)
        TRY(e->be->download(e->side, e->counts, e->ws->all_counts, bytes));
    else if (e->overlap && !left_out("order-not-awaited"))
        e->be->event_wait(e->s, e->routed);
    profile_enter(&e->profile, before);
    if (e->ep == 1)
        return 0;
    const int32_t *mine = e->counts + ((int64_t)e->at.etp * e->ep + e->at.ep) * e->E;
    for (int64_t k = 0; k < e->E; k++)
        d->send_first[k + 1] = d->send_first[k] + mine[k];
    int64_t fullest = 0;
    for (int holder = 0; holder < e->ep; holder++)
        fullest = max64(fullest, route_holder(e, w, d, holder));
    if (!fault("overflow-dropped"))
        d->passes = (int)max64(1, ceil_div(fullest, e->arena.row_capacity));
    return 0;
}

const int32_t *dispatch_order(struct engine *e, const struct layer *w, struct acts *a, int pass)
{
    struct workspace *ws = e->ws;
    if (sources(e) == 1)
        return a->first;
    int64_t C = e->arena.row_capacity;
    e->be->arrivals(e->s, &OP(arrivals, .sources = sources(e), .experts = local_experts(e, w),
                              .first = pass * C, .rows = C, .block = e->ep == 1 ? e->n * e->K : 0,
                              .arrived = a->arrived, .row = ws->row, .to = ws->to, .from = ws->from));
    return ws->row;
}

/* How many rows of [begin,end) at a holder come before this pass, and in it. */
static int64_t before_pass(const struct engine *e, int pass, int64_t begin, int64_t end)
{
    return min64(end, max64(begin, pass * e->arena.row_capacity)) - begin;
}
static int64_t in_pass(const struct engine *e, int pass, int64_t begin, int64_t end)
{
    return before_pass(e, pass + 1, begin, end) - before_pass(e, pass, begin, end);
}

/* e->blocks: where each source's rows of this pass begin on the wire, source j·ep + i; their number at the end.
 * */
static void find_blocks(struct engine *e, const struct layer *w, const struct dispatch *d, int pass)
{
    int64_t *at = e->blocks;
    for (int q = 0; q < sources(e); q++) {
        int64_t rows = e->ep == 1 ? e->n * e->K : 0;
        for (int64_t k = 0; e->ep > 1 && k < local_experts(e, w); k++) {
            const int64_t *s = &d->segment[k * sources(e) + q];
            rows += in_pass(e, pass, s[0], s[1]);
        }
        at[q + 1] = at[q] + rows;
    }
}

/* This rank's rows for a holder in this pass: the first in the order of sending, and how many. */
static int64_t rows_for(const struct engine *e, const struct layer *w, const struct dispatch *d, int pass,
                        int holder, int64_t *first)
{
    int64_t rows = 0;
    *first = d->send_first[w->slot[holder]];
    for (int64_t k = w->slot[holder]; k < w->slot[holder + 1]; k++) {
        int64_t end = d->landing[k] + d->send_first[k + 1] - d->send_first[k];
        *first += before_pass(e, pass, d->landing[k], end);
        rows += in_pass(e, pass, d->landing[k], end);
    }
    return rows;
}

static void piece(struct comm_piece *list, int *count, int peer, const struct wire *w, int64_t row,
                  int64_t rows)
{
    if (rows > 0)
        list[(*count)++] = (struct comm_piece){peer, w->p + (size_t)row * w->bytes, (size_t)rows * w->bytes};
}

/* Over ep: between this rank's own rows and the wire, there or back. */
static int swap_over_ep(struct engine *e, struct stream *s, const struct layer *w, const struct dispatch *d,
                        int pass, const struct wire *own, const struct wire *wire, bool back)
{
    if (e->ep == 1)
        return 0;
    struct comm_piece *outer = back ? e->recv : e->send, *inner = back ? e->send : e->recv;
    int outers = 0, inners = 0;
    for (int i = 0; i < e->ep; i++) {
        const int64_t *block = &e->blocks[e->at.etp * e->ep + i];
        int64_t first, rows = rows_for(e, w, d, pass, i, &first);
        piece(outer, &outers, i, own, first, rows);
        piece(inner, &inners, i, wire, block[0], block[1] - block[0]);
    }
    return exchange(e->group[GROUP_EP], s, e->send, back ? inners : outers, e->recv, back ? outers : inners);
}

/* Rows of the wire that came in through etp rank j. */
static int64_t through(const struct engine *e, int j, int64_t *first)
{
    *first = e->blocks[j * e->ep];
    return e->blocks[(j + 1) * e->ep] - *first;
}

static int spread_over_etp(struct engine *e, struct stream *s, const struct wire *wire)
{
    int sends = 0, recvs = 0;
    for (int j = 0; j < e->etp; j++) {
        int64_t theirs, mine, many = through(e, j, &theirs), few = through(e, e->at.etp, &mine);
        if (j == e->at.etp)
            continue;
        piece(e->send, &sends, j, wire, mine, few);
        piece(e->recv, &recvs, j, wire, theirs, many);
    }
    return exchange(e->group[GROUP_ETP], s, e->send, sends, e->recv, recvs);
}

int dispatch_send(struct engine *e, const struct layer *w, struct dispatch *d, int pass, bool weighted)
{
    if (sources(e) == 1)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    struct wire own = own_rows(e, e->ws->send, weighted), wire = wire_at(e, e->ws->wire, weighted);
    struct stream *s = leave(e, !left_out("packed-not-awaited"));
    find_blocks(e, w, d, pass);
    TRY(swap_over_ep(e, s, w, d, pass, &own, &wire, false));
    if (e->etp > 1)
        TRY(spread_over_etp(e, s, &wire));
    land(e, s, e->landed);
    profile_enter(&e->profile, before);
    return 0;
}

/* Between the rows of a pass as the products have them and as they travel. */
static void regroup(struct engine *e, const struct layer *w, void *rows, float *weight, bool back)
{
    struct workspace *ws = e->ws;
    struct wire wire = wire_at(e, ws->wire, weight);
    e->be->regroup(e->s,
                   &OP(regroup, .segments = local_experts(e, w) * sources(e), .rows = e->arena.row_capacity,
                       .wire_rows = e->arena.wire_rows, .width = e->H, .to = ws->to, .from = ws->from,
                       .grouped = rows, .weight = weight, .wire = wire.p, .ld = wire.ld,
                       .wire_weight = wire.weight, .ldw = wire.ldw, .back = back, .type = e->type));
}

void dispatch_rows(struct engine *e, const struct layer *w, void *rows, float *weight)
{
    if (sources(e) == 1)
        return;
    await(e, e->landed, PHASE_DISPATCH, !left_out("rows-not-awaited"));
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    regroup(e, w, rows, weight, false);
    profile_enter(&e->profile, before);
}

/* Sums over the etp group the rows that came in through this rank: everyone's part of them to here, and added
 * in order, as many at a time as ws.peer_rows has room for. */
static int reduce_over_etp(struct engine *e, struct stream *s, const struct wire *wire)
{
    int64_t chunk = (e->arena.row_capacity + e->etp) / e->etp, longest = 0, mine,
            few = through(e, e->at.etp, &mine);
    struct wire parts = wire_at(e, e->ws->peer_rows, wire->weight);
    for (int j = 0; j < e->etp; j++)
        longest = max64(longest, through(e, j, &(int64_t){0}));
    for (int64_t at = 0; at < longest; at += chunk) {
        int sends = 0, recvs = 0;
        int64_t n = max64(0, min64(chunk, few - at)), row = mine + at;
        for (int j = 0; j < e->etp; j++) {
            int64_t theirs, many = through(e, j, &theirs);
            piece(e->send, &sends, j, wire, theirs + at, min64(chunk, many - at));
            piece(e->recv, &recvs, j, &parts, j * n, n);
        }
        TRY(exchange(e->group[GROUP_ETP], s, e->send, sends, e->recv, recvs));
        if (fault("etp-sum-skipped"))
            continue;
        e->be->sum_rows(s, &OP(sum_rows, .rows = n, .width = e->H, .parts = e->etp, .x = parts.p,
                               .stride = n * parts.ld, .ldx = parts.ld,
                               .y = wire->p + (size_t)row * wire->bytes, .ldy = wire->ld, .type = e->type));
        if (wire->weight)
            e->be->sum_rows(s, &OP(sum_rows, .rows = n, .width = 1, .parts = e->etp, .x = parts.weight,
                                   .stride = n * parts.ldw, .ldx = parts.ldw,
                                   .y = wire->weight + row * wire->ldw, .ldy = wire->ldw, .type = F32));
    }
    return 0;
}

int combine_rows(struct engine *e, const struct layer *w, struct dispatch *d, int pass, void *rows,
                 float *weight)
{
    if (sources(e) == 1)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_COMBINE);
    struct wire own = own_rows(e, e->ws->back, weight), wire = wire_at(e, e->ws->wire, weight);
    regroup(e, w, rows, weight, true);
    struct stream *s = leave(e, !left_out("results-not-awaited"));
    find_blocks(e, w, d, pass);
    if (e->etp > 1)
        TRY(reduce_over_etp(e, s, &wire));
    TRY(swap_over_ep(e, s, w, d, pass, &own, &wire, true));
    land(e, s, e->landed);
    profile_enter(&e->profile, before);
    return 0;
}

void combine_tokens(struct engine *e, struct acts *a, const void *rows, const float *weight, void *y,
                    float *d_weight)
{
    enum phase before = profile_enter(&e->profile, PHASE_COMBINE);
    struct unpermute op = OP(unpermute, .tokens = e->n, .rows = e->arena.row_capacity, .width = e->H,
                             .top_k = e->K, .x = rows, .ldx = e->H, .position = a->position, .y = y,
                             .weight_in = weight, .ldw = 1, .weight_out = d_weight, .type = e->type);
    if (sources(e) > 1) {
        await(e, e->landed, PHASE_COMBINE, !left_out("combined-not-awaited"));
        struct wire w = own_rows(e, e->ws->back, weight);
        op.rows = e->n * e->K;
        op.x = w.p;
        op.ldx = w.ld;
        op.weight_in = w.weight;
        op.ldw = w.ldw;
    }
    e->be->unpermute(e->s, &op);
    profile_enter(&e->profile, before);
}
