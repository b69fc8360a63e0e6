/* SPDX-License-Identifier: MIT */
#include "cost/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fence.h"
#include "base/memory.h"
#include "base/num.h"
#include "cost/region.h"
#include "cost/rows.h"
#include "plan/schedule.h"
#include "plan/slots.h"
#include "scratch.h"

/* The least and most scratch for sums that pays (comm/comm.h). */
enum { ALIGN = 64, LEAST_COMM_SCRATCH = 4 << 20, MOST_COMM_SCRATCH = 16 << 20 };
#define MAX_BYTES ((int64_t)1 << 60) /* more is not counted */

/* A cursor over one block of memory. It stays at MAX_BYTES when more is taken. One piece cannot overflow:
 * tokens or rows (2^31) times widths of the model (2^27), or its weights (2^56), of 8 bytes. */
struct cursor {
    char *base;
    int64_t at;
    bool fenced; /* a fence follows each piece: the block is not laid out for several uses */
};

static void *take(struct cursor *c, int64_t count, int64_t bytes)
{
    char *p = c->base ? c->base + c->at : NULL;
    int64_t used = count * bytes, taken = round_up(used, ALIGN) + FENCE_BYTES;
    c->at = min64(c->at + taken, MAX_BYTES);
    if (p && c->fenced)
        fence(p + used, (size_t)(taken - used));
    return count ? p : NULL;
}

static int too_large(const struct plan *p)
{
    return error(STATUS_USAGE,
                 "a microbatch of %lld · %lld tokens, with lambda %g, is too large for any memory",
                 (long long)p->batch.micro, (long long)p->batch.seq, p->routing.lambda);
}

struct laying {
    const struct plan *p;
    const struct model *m;
    struct arena *a;
    int64_t e, n, T, H, K, local; /* bytes of an element; see arena.h, where local is El */
    bool split;                   /* the program splits weight gradients off */
    struct acts shared;           /* what recompute shares between layers */
};

static int64_t sources_of(const struct plan *p)
{
    return p->axes.ep * p->axes.etp;
}

static bool has_mlp(const struct laying *l, int layer, int64_t *width)
{
    *width = (l->m->moe[layer] ? l->m->shared_ffn : l->m->dense_ffn) / l->p->axes.tp;
    return *width > 0;
}

/* ---- activations ----
 *
 * What a layer keeps of a microbatch (struct acts) is cheap to make again, or dear. Shared buffers are one for
 * all layers of all stashes: backward of a layer fills them again just before it reads them (engine/layer.c),
 * so no two layers need them at once.
 *
 *   recompute    cheap       dear
 *   none         own         own
 *   selective    shared      own
 *   full         shared      shared: only the layers' inputs x are kept
 *
 * 8 layers of 1 MiB cheap and 3 MiB dear in 4 stashes: none 8·4·4 = 128 MiB, selective 8·4·3 + 1 = 97, full
 * 1 + 3 = 4, and x. */

/* Cheap: outputs of norms, SwiGLU and permutation. */
static void layout_cheap(struct laying *l, struct cursor *c, struct acts *x, bool moe, int64_t mlp)
{
    struct arena *a = l->a;
    x->h = take(c, l->n * l->H, l->e);
    x->h2 = take(c, l->n * l->H, l->e);
    if (moe) {
        x->rows = take(c, a->row_capacity * l->H, l->e);
        x->act = take(c, a->row_capacity * a->ffn, l->e);
    }
    if (mlp)
        x->mlp_act = take(c, l->T * mlp, l->e);
}

/* Linear attention keeps its projections before and after the convolution, gates, and its output. No engine
 * runs it: for planning only. */
static void layout_linear(struct laying *l, struct cursor *c, struct acts *x)
{
    int64_t tp = l->p->axes.tp, keys = linear_keys(l->m) / tp, values = linear_values(l->m) / tp;
    x->qkv = take(c, l->T * (4 * keys + 3 * values + 2 * l->m->linear.value_heads / tp), l->e);
    x->o = take(c, l->T * values, l->e);
}

static void layout_attention(struct laying *l, struct cursor *c, struct acts *x)
{
    struct arena *a = l->a;
    if (l->m->kv_rank)
        x->latent = take(c, l->n * (l->m->q_rank + l->m->kv_rank + l->m->rotary_dim), l->e);
    x->qkv = take(c, l->T * (a->q + 2 * a->kv), l->e);
    if (l->m->qk_norm != QK_NORM_NONE)
        x->qk_raw = take(c, l->T * (a->q + a->kv), l->e);
    if (l->m->qk_norm == QK_NORM_FULL)
        x->qk_ss = take(c, 2 * l->T, 4);
    x->o = take(c, l->T * a->o, l->e);
    x->lse = take(c, l->T * a->heads, 4);
}

/* Dear: outputs of matrix products and attention, and the router's small tables. */
static void layout_dear(struct laying *l, struct cursor *c, struct acts *x, bool linear, bool moe, int64_t mlp)
{
    struct arena *a = l->a;
    int64_t E = l->m->experts, nk = l->n * l->K;
    if (linear)
        layout_linear(l, c, x);
    else
        layout_attention(l, c, x);
    x->x2 = take(c, l->n * l->H, l->e);
    if (moe) {
        x->logits = take(c, l->n * E, 4);
        x->scores = take(c, l->n * E, 4);
        x->rlse = take(c, l->n, 4);
        x->topk = take(c, nk, 4);
        x->weight = take(c, nk, 4);
        x->aux = take(c, E, 4);
        x->position = take(c, nk, 4);
        x->source = take(c, nk, 4);
        x->first = take(c, E + 1, 4);
        x->row_weight = take(c, a->row_capacity, 4);
        x->gate_up = take(c, a->row_capacity * 2 * a->ffn, l->e);
        if (l->split)
            x->dy_rows = take(c, a->row_capacity * l->H, l->e);
    }
    if (mlp)
        x->mlp_gate_up = take(c, l->T * 2 * mlp, l->e);
    if (moe && l->m->shared_gate) {
        x->mlp_out = take(c, l->n * l->H, l->e);
        x->mlp_gate = take(c, l->n, 4);
    }
}

/* One stash's activations from the cursor. */
static void layout_stash(struct laying *l, struct cursor *c, struct stash *stash, const struct stage *st,
                         int stages)
{
    stash->begin = c->at;
    for (int i = 0; i <= st->layers; i++)
        stash->x[i] = take(c, l->n * l->H, l->e);
    /* In every stash, needed or not: stashes of chunks of equal layers are then of equal size, and fit each
     * other's places. */
    void *tokens = take(c, l->T, 4), *targets = take(c, l->T, 4);
    stash->tokens = stash->stage == 0 ? tokens : NULL;
    stash->targets = stash->stage == stages - 1 ? targets : NULL;
    for (int i = 0; i < st->layers; i++) {
        int64_t mlp;
        bool moe = l->m->moe[st->first + i];
        has_mlp(l, st->first + i, &mlp);
        struct acts *x = &stash->acts[i];
        *x = l->shared;
        if (l->p->training.recompute == RECOMPUTE_NONE)
            layout_cheap(l, c, x, moe, mlp);
        if (l->p->training.recompute != RECOMPUTE_FULL)
            layout_dear(l, c, x, l->m->mixer[st->first + i] == MIX_LINEAR, moe, mlp);
        if (!l->split)
            x->dy_rows = l->shared.dy_rows;
        if (moe && sources_of(l->p) > 1) /* other ranks' counts: not to be made again alone */
            x->arrived = take(c, sources_of(l->p) * l->local, 4);
    }
    stash->end = c->at;
}

static int64_t stash_bytes(struct laying *l, int stage)
{
    const struct stage *st = &l->p->stages[stage];
    struct cursor c = {0};
    struct stash stash = {.stage = stage,
                          .acts = xcalloc(st->layers, sizeof(struct acts)),
                          .x = xcalloc(st->layers + 1, sizeof(void *))};
    layout_stash(l, &c, &stash, st, l->p->stage_count);
    free(stash.acts);
    free(stash.x);
    return c.at;
}

/* ---- which stash each (chunk, microbatch) uses (region.h) ---- */

static int by_stash(const void *a, const void *b, void *list)
{
    const struct stay *x = (struct stay *)list + *(const int *)a, *y = (struct stay *)list + *(const int *)b;
    return x->chunk != y->chunk ? x->chunk - y->chunk : (x->begin > y->begin) - (x->begin < y->begin);
}

/* A stash for each chunk and place that blocks were at. */
static void list_stashes(struct laying *l, int pp, struct region *b, int cells)
{
    struct arena *a = l->a;
    int *order = xcalloc(cells, sizeof *order), taken = 0;
    for (int k = 1; k <= cells; k++)
        if (b->list[k].taken)
            order[taken++] = k;
    if (taken)
        qsort_r(order, taken, sizeof *order, by_stash, b->list);
    a->stashes = xcalloc(taken, sizeof *a->stashes);
    a->stash_of_op = xmalloc(cells * sizeof *a->stash_of_op);
    for (int k = 0; k < cells; k++)
        a->stash_of_op[k] = -1;
    for (int i = 0; i < taken; i++) {
        const struct stay *x = &b->list[order[i]];
        if (i == 0 || by_stash(&order[i - 1], &order[i], b->list) != 0)
            a->stashes[a->stash_count++] =
                (struct stash){.stage = plan_stage_of(l->p, pp, x->chunk), .begin = x->begin, .end = x->end};
        a->stash_of_op[order[i] - 1] = a->stash_count - 1;
    }
    free(order);
}

/* Plays one op. */
static int play_op(struct laying *l, int pp, struct region *b, const int64_t *bytes, int i)
{
    const struct plan *p = l->p;
    const struct op *o = &p->programs[pp].ops[i];
    int64_t m = p->batch.microbatches;
    if (o->chunk < 0 || o->chunk >= p->axes.vpp || o->microbatch < 0 || o->microbatch >= m)
        return error(STATUS_USAGE, "schedule of stage %d: op %d names chunk %d, microbatch %d", pp, i, o->chunk,
                     o->microbatch);
    int number = 1 + o->chunk * (int)m + o->microbatch;
    if (o->kind == (l->split ? 'W' : 'B'))
        region_free(b, number);
    if (o->kind != 'F')
        return 0;
    if (b->list[number].taken)
        return error(STATUS_USAGE, "schedule of stage %d: op %d repeats a forward", pp, i);
    region_take(b, number, o->chunk, bytes[o->chunk]);
    return b->list[number].end >= MAX_BYTES ? too_large(p) : 0;
}

static int assign_stashes(struct laying *l, int pp, int64_t *region)
{
    const struct plan *p = l->p;
    int64_t v = p->axes.vpp, *bytes = xcalloc(v, sizeof *bytes);
    int cells = (int)(p->batch.microbatches * v), r = 0;
    struct region b = {.list = xcalloc(cells + 1, sizeof *b.list), .smallest = MAX_BYTES};
    for (int c = 0; c < v; c++) {
        bytes[c] = stash_bytes(l, plan_stage_of(p, pp, c));
        b.smallest = min64(b.smallest, bytes[c]);
    }
    *region = 0;
    for (int i = 0; i < p->programs[pp].count && r == 0; i++)
        r = play_op(l, pp, &b, bytes, i);
    for (int k = 1; k <= cells; k++)
        *region = max64(*region, b.list[k].end);
    if (r == 0)
        list_stashes(l, pp, &b, cells);
    free(b.list);
    free(bytes);
    return r;
}

/* ---- the parts ---- */

/* At the very beginning of the block, where it is as aligned as the block is. */
static void layout_scratch(struct laying *l, struct cursor *c)
{
    struct arena *a = l->a;
    if (l->p->machine.device == DEVICE_CPU)
        return;
    a->ws.scratch_bytes = scratch_bytes(l->T * l->K, l->m->experts);
    a->ws.scratch = take(c, a->ws.scratch_bytes, 1);
    a->bytes.scratch = c->at;
}

static void layout_parameters(struct laying *l, struct cursor *c, const struct shards *s, int pp)
{
    struct arena *a = l->a;
    int64_t begin = c->at;
    int64_t layers = max64(1, plan_layers_on(l->p, pp));
    int zero = l->p->training.zero; /* 2 and 3: for planning only */
    for (int f = 0; f < FLATS; f++)
        a->weights[f] = take(c, zero == 3 ? s->sliced[f] : s->padded[f], f == FLAT_BUFFER ? 4 : l->e);
    if (zero == 3) /* weights gathered: those of the layer at work, and of the next */
        take(c, 2 * ceil_div(s->padded[FLAT_DENSE] + s->padded[FLAT_EXPERT], layers), l->e);
    a->cos_sin = take(c, l->p->batch.seq * l->m->rotary_dim, 4);
    a->slot_of = take(c, l->m->layers * l->m->experts, 4);
    a->bytes.weights = c->at - begin;
    begin = c->at;
    for (int f = 0; f < 2; f++)
        a->grad[f] = take(c, zero >= 2 ? s->sliced[f] : s->padded[f], l->p->training.grad_bf16 ? 2 : 4);
    a->bytes.gradients = c->at - begin;
    begin = c->at;
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < STATES; i++)
            if (plan_keeps(l->p, i))
                a->state[i][f] = take(c, s->sliced[f], l->p->training.moment_bf16 && i != STATE_MASTER ? 2 : 4);
    a->bytes.optimizer = c->at - begin;
}

/* What recompute shares, and the gradient rows when no stash keeps them. Room for the greediest kind of layer.
 */
static void layout_shared(struct laying *l, struct cursor *c)
{
    int64_t mlp = l->a->mlp;
    bool moe = l->m->moe_layers > 0;
    if (l->p->training.recompute == RECOMPUTE_FULL)
        layout_dear(l, c, &l->shared, false, moe, mlp);
    if (l->p->training.recompute != RECOMPUTE_NONE)
        layout_cheap(l, c, &l->shared, moe, mlp);
    if (moe && !l->split)
        l->shared.dy_rows = take(c, l->a->row_capacity * l->H, l->e);
}

static void layout_router(struct laying *l, struct cursor *c)
{
    struct workspace *w = &l->a->ws;
    const struct axes *x = &l->p->axes;
    int64_t E = l->m->experts, nk = l->n * l->K, tk = l->T * l->K, C = l->a->row_capacity;
    int64_t row = l->a->wire_bytes, segments = l->local * sources_of(l->p);
    w->d_weight = take(c, nk, 4);
    w->counts = take(c, E, 4);
    w->all_counts = take(c, x->etp * x->ep * E, 4);
    w->stats = take(c, 2 * E + 1, 4);
    w->margin = take(c, l->n, 4);
    if (l->e != 4) {
        w->router_w = take(c, E * l->H, 4);
        w->h2_f32 = take(c, l->n * l->H, 4);
    }
    w->dropped = take(c, 1, 4);
    if (l->p->routing.capacity > 0) {
        w->all_topk = take(c, tk, 4);
        w->all_keep = take(c, tk, 4);
        w->all_weight = take(c, tk, 4);
    }
    w->d_row_weight = take(c, C, 4);
    w->y_rows = l->split ? take(c, C * l->H, l->e) : l->shared.dy_rows;
    w->d_act = take(c, C * l->a->ffn, l->e);
    if (x->ep > 1) {
        w->send = take(c, nk, row);
        w->back = take(c, nk, row);
    }
    if (sources_of(l->p) > 1) {
        w->wire = take(c, l->a->wire_rows, row);
        w->row = take(c, l->local + 1, 4);
        w->to = take(c, segments + 1, 4);
        w->from = take(c, segments, 4);
    }
    if (x->etp > 1)
        w->peer_rows = take(c, C + x->etp, row);
}

static void layout_head(struct laying *l, struct cursor *c)
{
    struct workspace *w = &l->a->ws;
    int64_t cells = l->T * l->a->vocab;
    w->logits = take(c, cells, 4);
    w->dlogits = l->e == 4 ? w->logits : take(c, cells, l->e);
    w->ce_stats = take(c, (1 + l->p->axes.tp) * l->T * 3, 4);
    w->losses = take(c, l->T, 4);
}

static int local_moe_layers(const struct plan *p, int pp)
{
    int count = 0;
    for (int v = 0; v < p->stage_count; v++) {
        const struct stage *s = &p->stages[v];
        for (int l = s->first; l < s->first + s->layers && s->pp == pp; l++)
            count += p->model.moe[l];
    }
    return count;
}

static void layout_step(struct laying *l, struct cursor *c, int pp)
{
    l->a->step_bytes = (int64_t)sizeof *l->a->step + local_moe_layers(l->p, pp) * l->m->experts * 4;
    l->a->step = take(c, l->a->step_bytes, 1);
}

static void layout_workspace(struct laying *l, struct cursor *c, bool last_stage, int world)
{
    struct arena *a = l->a;
    struct workspace *w = &a->ws;
    int64_t nH = l->n * l->H, TH = l->T * l->H, qkv = l->T * (a->q + 2 * a->kv);
    if (l->p->axes.tp > 1) {
        w->gather = take(c, TH, l->e);
        w->gather_d = take(c, TH, l->e);
        w->partial = take(c, TH, l->e);
    }
    w->branch = take(c, nH, l->e);
    w->dh = take(c, nH, l->e);
    if (l->split)
        w->keep_d = take(c, nH, l->e);
    w->dqkv = take(c, qkv, l->e);
    w->d_o = take(c, l->T * a->o, l->e);
    w->delta = take(c, l->T * a->heads, 4);
    if (l->m->qk_norm == QK_NORM_FULL)
        w->norm_sums = take(c, l->T, 4);
    int64_t begin = c->at;
    if (l->m->moe_layers)
        layout_router(l, c);
    a->bytes.dispatch = c->at - begin;
    if (a->mlp)
        w->mlp_d_act = take(c, l->T * a->mlp, l->e);
    if (l->m->shared_gate) {
        w->mlp_dy = take(c, nH, l->e);
        w->mlp_dg = take(c, l->n, 4);
    }
    begin = c->at;
    if (last_stage)
        layout_head(l, c);
    a->bytes.head = c->at - begin;
    w->scalar = take(c, 1, 8);
    begin = c->at;
    if (world > 1) {
        w->comm_bytes = l->p->axes.tp > 1 ? min64(TH * l->e, MOST_COMM_SCRATCH) : 0;
        w->comm_bytes = max64(w->comm_bytes, LEAST_COMM_SCRATCH);
        w->comm = take(c, w->comm_bytes, 1);
        w->buckets_bytes = plan_cuts_buckets(l->p) ? LEAST_COMM_SCRATCH : 0;
        if (w->buckets_bytes)
            w->buckets = take(c, w->buckets_bytes, 1);
        a->bytes.communication = w->comm_bytes + w->buckets_bytes;
    }
}

/* Positions of rows, sent and received, are 32 bits wide. */
static int measure(struct laying *l, const struct coords *at)
{
    const struct plan *p = l->p;
    const struct model *m = l->m;
    struct arena *a = l->a;
    a->tokens = l->T;
    a->local_tokens = l->n;
    a->heads = m->heads / p->axes.tp;
    a->kv_heads = max64(1, m->kv_heads / p->axes.tp);
    a->q = a->heads * m->head_dim;
    a->o = a->heads * m->value_dim;
    a->kv = a->kv_heads * (m->head_dim + m->value_dim) / 2;
    a->ffn = m->expert_ffn / p->axes.etp;
    double rows = m->moe_layers ? reserved_rows(p, l->n) : 0;
    if (rows > INT32_MAX || l->n * l->K > INT32_MAX)
        return too_large(p);
    a->row_capacity = (int64_t)rows;
    /* Without other holders each source has a block of its own, as long as can be: nobody need know the counts.
     * */
    a->wire_rows = p->axes.ep > 1 ? a->row_capacity : l->n * l->K * p->axes.etp;
    a->wire_bytes = round_up(l->H * l->e + 4, 16); /* aligned as GPUs like it */
    for (int i = 0; i < m->layers; i++) {
        int64_t mlp;
        if (has_mlp(l, i, &mlp))
            a->mlp = max64(a->mlp, mlp);
    }
    even_part(m->vocab, p->axes.tp, at->tp, &a->vocab_first, &a->vocab);
    return 0;
}

static void build_stashes(struct laying *l, struct cursor *c)
{
    struct arena *a = l->a;
    size_t acts = 0, xs = 0;
    for (int i = 0; i < a->stash_count; i++) {
        acts += l->p->stages[a->stashes[i].stage].layers;
        xs += l->p->stages[a->stashes[i].stage].layers + 1;
    }
    struct acts *next = a->acts_block = xcalloc(acts, sizeof *next);
    void **x = a->x_block = xcalloc(xs, sizeof *x);
    bool apart = l->p->axes.vpp == 1; /* else stashes of other chunks use the same bytes */
    for (int i = 0; i < a->stash_count; i++) {
        struct stash *s = &a->stashes[i];
        const struct stage *st = &l->p->stages[s->stage];
        struct cursor at = {c->base ? c->base + c->at : NULL, s->begin, apart};
        s->acts = next;
        s->x = x;
        next += st->layers;
        x += st->layers + 1;
        layout_stash(l, &at, s, st, l->p->stage_count);
    }
}

/* All but the activations. */
static int layout_fixed(struct laying *l, struct cursor *c, const struct coords *at, const struct shards *s)
{
    const struct plan *p = l->p;
    l->m = &p->model;
    l->e = (int64_t)plan_type_bytes(p);
    l->n = plan_local_tokens(p);
    l->H = p->model.hidden;
    l->K = p->model.top_k;
    l->T = l->n * p->axes.tp;
    l->local = plan_most_slots(p);
    TRY(measure(l, at));
    layout_scratch(l, c);
    int64_t scratch = c->at;
    layout_parameters(l, c, s, at->pp);
    int64_t begin = c->at;
    layout_step(l, c, at->pp);
    layout_shared(l, c);
    layout_workspace(l, c, plan_is_last(p, at->pp), p->world);
    l->a->bytes.workspace = scratch + c->at - begin;
    return 0;
}

static bool same_layers(const struct plan *p, int a, int b)
{
    const struct stage *x = &p->stages[a], *y = &p->stages[b];
    for (int i = 0; i < x->layers && x->layers == y->layers; i++)
        if (model_layer_kind(&p->model, x->first + i) != model_layer_kind(&p->model, y->first + i))
            return false;
    return x->layers == y->layers;
}

int arena_bound(const struct plan *p, const struct coords *at, const struct shards *s, int64_t *bytes)
{
    const struct schedule *schedule = plan_schedule(p);
    struct arena a = {0};
    struct laying l = {.p = p, .a = &a, .split = schedule->splits};
    struct cursor c = {0};
    TRY(layout_fixed(&l, &c, at, s));
    struct pipe pipe = plan_pipe(p, at->pp);
    int64_t held = schedule->in_flight(pipe), turn = pipe.p * pipe.v, one = 0, region = 0, more;
    for (int64_t chunk = 0; chunk < pipe.v; chunk++) {
        int stage = plan_stage_of(p, at->pp, (int)chunk);
        if (chunk == 0 || !same_layers(p, stage, plan_stage_of(p, at->pp, (int)chunk - 1)))
            one = stash_bytes(&l, stage);
        int64_t of_chunk = held / turn * pipe.p + max64(0, min64(pipe.p, held % turn - chunk * pipe.p));
        if (!mul_ok(one, pipe.v > 1 ? of_chunk : held, &more) || !add_ok(region, more, &region))
            region = MAX_BYTES;
    }
    region = min64(region, MAX_BYTES - c.at);
    *bytes = c.at + region;
    return 0;
}

int64_t arena_parameters(const struct plan *p, const struct coords *at, const struct shards *s)
{
    struct arena a = {0};
    struct laying l = {.p = p, .a = &a, .m = &p->model, .e = (int64_t)plan_type_bytes(p)};
    struct cursor c = {0};
    layout_parameters(&l, &c, s, at->pp);
    return c.at;
}

int arena_layout(struct arena *a, const struct plan *p, int rank, const struct shards *s, void *base)
{
    *a = (struct arena){0};
    const struct coords *at = &p->ranks[rank];
    struct laying l = {.p = p, .a = a, .split = program_splits_backward(&p->programs[at->pp])};
    struct cursor c = {base, 0, true};
    TRY(layout_fixed(&l, &c, at, s));
    int64_t region;
    int r = assign_stashes(&l, at->pp, &region);
    if (r == 0 && c.at + region >= MAX_BYTES)
        r = too_large(p);
    if (r < 0) {
        arena_release(a);
        return -1;
    }
    if (base)
        build_stashes(&l, &c);
    a->bytes.activations = region;
    a->bytes.total = c.at + region;
    return 0;
}

void arena_release(struct arena *a)
{
    free(a->stashes);
    free(a->stash_of_op);
    free(a->acts_block);
    free(a->x_block);
    *a = (struct arena){0};
}
