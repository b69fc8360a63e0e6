/* SPDX-License-Identifier: MIT */
/* Dispatch and combine: rows to the ranks that hold their experts, results back.
 *
 * The experts of one ep rank are cut over its etp group. A row goes to the holder with the sender's own etp
 * coordinate (all-to-all over ep) and from there to the others of that etp group (all-gather), so it crosses
 * the network once. Rows stand at a holder by local expert, then etp rank, then ep rank of the sender, so the
 * rows of one expert are one run and nothing is permuted on arrival. Everyone knows everyone's counts, hence
 * every offset.
 *
 * A holder that gets more rows than the plan reserved (C) takes them in several passes: pass p is rows [p·C,
 * (p+1)·C) of its order.
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
 * in pass 0 to its row 3, the other in pass 1 to its row 0. That one is row send_first + pass·C + 0 - landing =
 * 1 + 4 + 0 - 3 = 2 in the order of sending. */
#include "engine/dispatch.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "engine/linear.h"

static int64_t local_experts(const struct engine *e)
{
    return e->E / e->ep;
}

static size_t row_bytes(const struct engine *e)
{
    return (size_t)e->H * type_bytes(e->type);
}

void dispatch_init(struct engine *e, struct dispatch *d)
{
    int64_t sources = (int64_t)e->ep * e->etp;
    d->send_first = xcalloc(e->E + 1, sizeof *d->send_first);
    d->landing = xcalloc(e->E, sizeof *d->landing);
    d->segment = xcalloc(local_experts(e) * sources + 1, sizeof *d->segment);
}

void dispatch_release(struct dispatch *d)
{
    free(d->send_first);
    free(d->landing);
    free(d->segment);
}

static int gather_counts(struct engine *e)
{
    struct workspace *ws = e->ws;
    size_t bytes = (size_t)e->E * 4;
    int32_t *mine = ws->all_counts + (int64_t)e->at.etp * e->ep * e->E;
    if (e->ep == 1)
        e->be->copy(e->s, mine, ws->counts, bytes);
    else
        TRY(all_gather(e->group[GROUP_EP], ws->counts, mine, bytes));
    if (e->etp > 1)
        TRY(all_gather(e->group[GROUP_ETP], mine, ws->all_counts, bytes * (size_t)e->ep));
    return e->be->download(e->s, e->counts, ws->all_counts, bytes * (size_t)(e->ep * e->etp));
}

int dispatch_route(struct engine *e, struct dispatch *d)
{
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    TRY(gather_counts(e));
    profile_enter(&e->profile, before);
    int64_t El = local_experts(e), fullest = 0;
    const int32_t *mine = e->counts + ((int64_t)e->at.etp * e->ep + e->at.ep) * e->E;
    d->send_first[0] = 0;
    for (int64_t k = 0; k < e->E; k++)
        d->send_first[k + 1] = d->send_first[k] + mine[k];
    for (int holder = 0; holder < e->ep; holder++) {
        int64_t at = 0, *segment = holder == e->at.ep ? d->segment : NULL;
        for (int64_t k = holder * El; k < (holder + 1) * El; k++)
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
        fullest = max64(fullest, at);
    }
    d->passes = (int)max64(1, ceil_div(fullest, e->arena.row_capacity));
    if (fault("overflow-dropped"))
        d->passes = 1;
    d->weights_done = false;
    return 0;
}

/* The part of rows [begin,end) that pass takes, as a range relative to the pass. */
static int64_t in_pass(const struct engine *e, int pass, int64_t begin, int64_t end, int64_t *first)
{
    int64_t C = e->arena.row_capacity, a = max64(begin, pass * C), b = min64(end, (pass + 1) * C);
    *first = a - pass * C;
    return max64(0, b - a);
}

void dispatch_segments(const struct engine *e, const struct dispatch *d, int pass, int64_t *row)
{
    int64_t El = local_experts(e), sources = (int64_t)e->ep * e->etp, C = e->arena.row_capacity;
    for (int64_t k = 0; k <= El; k++)
        row[k] = min64(C, max64(0, d->segment[k * sources] - pass * C));
}

static void piece(struct comm_piece *list, int *count, int peer, void *base, int64_t row, int64_t rows,
                  size_t bytes)
{
    if (rows > 0)
        list[(*count)++] = (struct comm_piece){peer, (char *)base + (size_t)row * bytes, (size_t)rows * bytes};
}

/* Pieces between this rank's order of sending (`out`) and the holders. `weight` pieces follow their rows. */
static int outer_pieces(struct engine *e, struct dispatch *d, int pass, struct comm_piece *list, void *out,
                        float *weight)
{
    int64_t El = local_experts(e);
    int count = 0;
    for (int64_t k = 0; k < e->E; k++) {
        int64_t first, rows = d->send_first[k + 1] - d->send_first[k];
        int64_t some = in_pass(e, pass, d->landing[k], d->landing[k] + rows, &first);
        int64_t at = d->send_first[k] + first + (int64_t)pass * e->arena.row_capacity - d->landing[k];
        piece(list, &count, (int)(k / El), out, at, some, row_bytes(e));
        if (weight)
            piece(list, &count, (int)(k / El), weight, at, some, 4);
    }
    return count;
}

/* Pieces between the rows here and the ranks of the ep group they come from. */
static int inner_pieces(struct engine *e, struct dispatch *d, int pass, struct comm_piece *list, void *rows,
                        float *weight)
{
    int64_t El = local_experts(e);
    int count = 0;
    for (int64_t k = 0; k < El; k++)
        for (int i = 0; i < e->ep; i++) {
            const int64_t *s = &d->segment[(k * e->etp + e->at.etp) * e->ep + i];
            int64_t first, some = in_pass(e, pass, s[0], s[1], &first);
            piece(list, &count, i, rows, first, some, row_bytes(e));
            if (weight)
                piece(list, &count, i, weight, first, some, 4);
        }
    return count;
}

/* Rows here that came in through etp rank j, as pieces for `peer`. */
static int through_pieces(struct engine *e, struct dispatch *d, int pass, int j, int peer,
                          struct comm_piece *list, int count, void *rows, float *weight)
{
    for (int64_t k = 0; k < local_experts(e); k++) {
        const int64_t *s = &d->segment[(k * e->etp + j) * e->ep];
        int64_t first, some = in_pass(e, pass, s[0], s[e->ep], &first);
        piece(list, &count, peer, rows, first, some, row_bytes(e));
        if (weight)
            piece(list, &count, peer, weight, first, some, 4);
    }
    return count;
}

static int spread_over_etp(struct engine *e, struct dispatch *d, int pass, void *rows, float *weight)
{
    int sends = 0, recvs = 0;
    for (int j = 0; j < e->etp; j++) {
        if (j == e->at.etp)
            continue;
        sends = through_pieces(e, d, pass, e->at.etp, j, e->send, sends, rows, weight);
        recvs = through_pieces(e, d, pass, j, j, e->recv, recvs, rows, weight);
    }
    return exchange(e->group[GROUP_ETP], e->send, sends, e->recv, recvs);
}

int dispatch_rows(struct engine *e, struct acts *a, struct dispatch *d, int pass, const void *x, void *rows,
                  float *weight)
{
    enum phase before = profile_enter(&e->profile, PHASE_DISPATCH);
    bool local = e->ep * e->etp == 1;
    float *sent = !weight ? NULL : local ? weight : e->ws->send_weight;
    e->be->permute(e->s, &OP(permute, .rows = d->send_first[e->E], .width = e->H, .top_k = e->K, .x = x,
                             .source = a->source, .y = local ? rows : e->ws->send,
                             .weight_in = weight ? a->weight : NULL, .weight_out = sent, .type = e->type));
    if (!local) {
        int sends = outer_pieces(e, d, pass, e->send, e->ws->send, sent);
        int recvs = inner_pieces(e, d, pass, e->recv, rows, weight);
        TRY(exchange(e->group[GROUP_EP], e->send, sends, e->recv, recvs));
        if (e->etp > 1)
            TRY(spread_over_etp(e, d, pass, rows, weight));
    }
    profile_enter(&e->profile, before);
    return 0;
}

/* Sums over the etp group the rows that came in through this rank: each hop k brings the partial sums of rank
 * me−k. */
static int reduce_over_etp(struct engine *e, struct dispatch *d, int pass, void *rows, float *weight)
{
    struct workspace *ws = e->ws;
    int64_t C = e->arena.row_capacity,
            total = min64(C, max64(0, d->segment[local_experts(e) * e->etp * e->ep] - pass * C));
    for (int hop = 1; hop < e->etp; hop++) {
        int to = (e->at.etp + hop) % e->etp, from = (e->at.etp - hop + e->etp) % e->etp;
        int sends = through_pieces(e, d, pass, to, to, e->send, 0, rows, weight);
        int recvs = through_pieces(e, d, pass, e->at.etp, from, e->recv, 0, ws->peer_rows,
                                   weight ? ws->peer_weight : NULL);
        TRY(exchange(e->group[GROUP_ETP], e->send, sends, e->recv, recvs));
        if (fault("etp-sum-skipped"))
            continue;
        for (int64_t k = 0; k < local_experts(e); k++) {
            const int64_t *s = &d->segment[(k * e->etp + e->at.etp) * e->ep];
            int64_t first, some = in_pass(e, pass, s[0], s[e->ep], &first);
            size_t at = (size_t)first * row_bytes(e);
            if (first >= total || some == 0)
                continue;
            add_into(e, some * e->H, (char *)rows + at, (char *)ws->peer_rows + at);
            if (weight)
                e->be->add(e->s, &OP(add, .count = some, .a = weight + first, .b = ws->peer_weight + first,
                                     .y = weight + first, .type = F32));
        }
    }
    return 0;
}

int combine_rows(struct engine *e, struct dispatch *d, int pass, void *rows, float *weight)
{
    if (e->ep * e->etp == 1)
        return 0;
    enum phase before = profile_enter(&e->profile, PHASE_COMBINE);
    if (e->etp > 1)
        TRY(reduce_over_etp(e, d, pass, rows, weight));
    int sends = inner_pieces(e, d, pass, e->send, rows, weight);
    int recvs = outer_pieces(e, d, pass, e->recv, e->ws->back, weight ? e->ws->back_weight : NULL);
    TRY(exchange(e->group[GROUP_EP], e->send, sends, e->recv, recvs));
    profile_enter(&e->profile, before);
    return 0;
}

void combine_tokens(struct engine *e, struct acts *a, struct dispatch *d, const void *rows, const float *weight,
                    void *y, float *d_weight)
{
    enum phase before = profile_enter(&e->profile, PHASE_COMBINE);
    bool local = e->ep * e->etp == 1;
    const float *came = !d_weight ? NULL : local ? weight : e->ws->back_weight;
    e->be->unpermute(e->s,
                     &OP(unpermute, .tokens = e->n, .width = e->H, .top_k = e->K, .rows = d->send_first[e->E],
                         .x = local ? rows : e->ws->back, .position = a->position, .y = y, .weight_in = came,
                         .weight_out = d_weight, .type = e->type));
    profile_enter(&e->profile, before);
}
