/* SPDX-License-Identifier: MIT */
/* What a rank has: memory, groups, and the addresses of its parameters. */
#include "engine/setup.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/fence.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "cost/fit.h"
#include "engine/buckets.h"
#include "engine/capture.h"
#include "engine/dispatch.h"
#include "scratch.h"

static struct weight weight_at(const struct engine *e, const struct shard *s)
{
    const struct arena *a = &e->arena;
    if (s->flat == FLAT_BUFFER)
        return (struct weight){(float *)a->weights[s->flat] + s->offset, NULL};
    return (struct weight){(char *)a->weights[s->flat] + (size_t)s->offset * type_bytes(e->type),
                           a->grad[s->flat] + s->offset};
}

/* The parameters of a layer by their tensors' kinds. Of fused ones (q|k|v, gate|up, the experts) the first
 * gives the address; the others are not here. */
#define IN_LAYER(kind, member) [kind] = offsetof(struct layer, member)
static const size_t in_layer[TENSOR_KINDS] = {
    IN_LAYER(T_INPUT_NORM, input_norm),
    IN_LAYER(T_POST_NORM, post_norm),
    IN_LAYER(T_Q, qkv),
    IN_LAYER(T_Q_BIAS, qkv_bias),
    IN_LAYER(T_Q_NORM, q_norm),
    IN_LAYER(T_K_NORM, k_norm),
    IN_LAYER(T_O, o),
    IN_LAYER(T_O_BIAS, o_bias),
    IN_LAYER(T_ROUTER, router),
    IN_LAYER(T_GATE, mlp_gate_up),
    IN_LAYER(T_SHARED_GATE, mlp_gate_up),
    IN_LAYER(T_DOWN, mlp_down),
    IN_LAYER(T_SHARED_DOWN, mlp_down),
    IN_LAYER(T_SHARED_SWITCH, mlp_switch),
    IN_LAYER(T_EXPERT_GATE, experts),
};
_Static_assert(offsetof(struct layer, moe) == 0, "0 is no weight's place in a layer");

static void locate_in_layer(struct layer *l, enum tensor_kind kind, struct weight at)
{
    struct weight *w = (struct weight *)((char *)l + in_layer[kind]);
    if (kind == T_ROUTER_BIAS)
        l->router_bias = at.w;
    else if (in_layer[kind] && (!w->w || at.w < w->w)) /* of the local experts the lowest is slot 0 */
        *w = at;
}

/* Notes where one shard's parameter lies. */
static void locate(struct engine *e, const struct shard *s)
{
    const struct tensor *t = &e->plan->inventory.tensors[s->tensor];
    struct weight at = weight_at(e, s);
    if (t->layer >= 0)
        locate_in_layer(&e->layers[t->layer], t->kind, at);
    else if (t->kind == T_FINAL_NORM)
        e->final_norm = at;
    else if (t->kind == T_HEAD || s->second)
        e->head = at;
    else
        e->embed = at;
}

static void locate_all(struct engine *e)
{
    const struct model *m = e->model;
    e->layers = xcalloc(m->layers, sizeof *e->layers);
    for (int i = 0; i < e->shards.count; i++)
        locate(e, &e->shards.list[i]);
    if (!e->head.w && plan_is_last(e->plan, e->at.pp))
        e->head = e->embed; /* tied, on one stage */
    for (int i = 0; i < m->layers; i++) {
        struct layer *l = &e->layers[i];
        l->moe = m->moe[i];
        l->mlp_width = (l->moe ? m->shared_ffn : m->dense_ffn) / e->tp;
        l->slot = e->plan->slots.first + i * (e->ep + 1);
        l->moe_index = l->moe && l->router.w ? e->moe_layers++ : -1;
    }
}

static int make_groups(struct engine *e)
{
    for (int k = 0; k < GROUP_KINDS; k++) {
        const struct plan_group *g = plan_group_of(e->plan, k, e->rank);
        if (g && !(e->group[k] = comm_group(e->comm, group_name[k], g->ranks, g->size)))
            return -1;
    }
    return 0;
}

/* Weights, gradients and what the optimizer keeps: moments begin at 0, and the padding of flat buffers stays 0.
 */
static void zero_lasting(struct engine *e)
{
    const struct arena *a = &e->arena;
    for (int f = 0; f < FLATS; f++)
        e->be->zero(e->s, a->weights[f],
                    (size_t)e->shards.padded[f] * (f == FLAT_BUFFER ? 4 : type_bytes(e->type)));
    for (int f = 0; f < FLAT_BUFFER; f++)
        e->be->zero(e->s, a->grad[f], (size_t)e->shards.padded[f] * 4);
    for (int i = 0; i < STATES; i++)
        for (int f = 0; f < 2; f++)
            if (a->state[i][f])
                e->be->zero(e->s, a->state[i][f], (size_t)e->shards.sliced[f] * 4);
}

/* Angles as transformers computes them, in f32. */
static void upload_rope(struct engine *e)
{
    int64_t S = e->plan->batch.seq, R = e->model->rotary_dim, half = R / 2;
    float *table = xmalloc((size_t)(S * R) * 4 + 4);
    for (int64_t i = 0; i < half; i++) {
        float frequency = 1 / (float)pow(e->model->rope_theta, (double)((float)(2 * i) / (float)R));
        for (int64_t t = 0; t < S; t++) {
            double angle = (float)t * frequency;
            table[t * R + i] = (float)cos(angle);
            table[t * R + half + i] = (float)sin(angle);
        }
    }
    e->be->upload(e->s, e->arena.cos_sin, table, (size_t)(S * R) * 4);
    free(table);
}

static void upload_placement(struct engine *e)
{
    int64_t count = e->model->layers * e->E;
    int32_t *slots = xmalloc((size_t)count * 4 + 4);
    for (int64_t i = 0; i < count; i++)
        slots[i] = e->plan->slots.of[i];
    e->be->upload(e->s, e->arena.slot_of, slots, (size_t)count * 4);
    free(slots);
}

static int make_dispatch(struct engine *e)
{
    for (int i = 0; i < e->plan->stage_count; i++)
        e->dispatch_stride = (int)max64(e->dispatch_stride, e->plan->stages[i].layers);
    size_t count = (size_t)e->arena.stash_count * (size_t)e->dispatch_stride;
    e->dispatch = xcalloc(count, sizeof *e->dispatch);
    for (size_t i = 0; i < count && e->E; i++)
        dispatch_init(e, &e->dispatch[i]);
    e->counts = xcalloc((size_t)(e->ep * e->etp) * (size_t)e->E, sizeof *e->counts);
    e->blocks = xcalloc((size_t)(e->ep * e->etp) + 1, sizeof *e->blocks);
    e->send = xcalloc((size_t)max64(e->ep, e->etp), sizeof *e->send);
    e->recv = xcalloc((size_t)max64(e->ep, e->etp), sizeof *e->recv);
    e->side = e->be->stream_new();
    e->rows = e->be->stream_new();
    e->routed = e->be->event_new();
    e->packed = e->be->event_new();
    e->landed = e->be->event_new();
    e->figures = xcalloc((size_t)e->arena.step_bytes, 1);
    return 0;
}

static int open_mail(struct engine *e)
{
    int peers = 0;
    e->ready = e->be->event_new();
    e->times = xcalloc((size_t)e->messages.count, sizeof *e->times);
    e->delivered = xcalloc((size_t)e->messages.count, sizeof *e->delivered);
    for (int i = 0, k; i < e->messages.count; i++) {
        e->delivered[i] = e->be->event_new();
        for (k = 0; k < peers && e->mail[k].peer != e->messages.list[i].peer;)
            k++;
        if (k < peers)
            continue;
        if (peers == 2)
            return error(STATUS_USAGE, "stage rank %d has messages for more than two others", e->at.pp);
        e->mail[peers++] = (struct mail){
            .out = e->be->stream_new(), .in = e->be->stream_new(), .peer = e->messages.list[i].peer};
    }
    return 0;
}

static void close_mail(struct engine *e)
{
    for (int k = 0; k < 2; k++) {
        if (!e->mail[k].out)
            continue;
        e->be->stream_free(e->mail[k].out);
        e->be->stream_free(e->mail[k].in);
    }
    for (int i = 0; i < e->messages.count && e->delivered; i++)
        e->be->event_free(e->delivered[i]);
    if (e->ready)
        e->be->event_free(e->ready);
    free(e->delivered);
    free(e->times);
}

static int make_messages(struct engine *e)
{
    int64_t pp = e->plan->axes.pp;
    struct stage_queue *queues = xcalloc((size_t)pp, sizeof *queues);
    int r = messages_make(e->plan, queues);
    if (r == 0) {
        e->messages = queues[e->at.pp];
        queues[e->at.pp] = (struct stage_queue){0};
        messages_release(queues, pp);
    }
    free(queues);
    return r < 0 ? -1 : open_mail(e);
}

/* The rank's one block of device memory. */
static int take_memory(struct engine *e)
{
    int64_t bytes = e->arena.bytes.total;
    errno = 0;
    if ((e->memory = e->be->alloc((size_t)bytes)))
        return 0;
    if (errno != ENOMEM)
        return error_prefix("%" PRId64 " bytes", bytes);
    char said[400], advice[400];
    snprintf(said, sizeof said, "%s", error_text());
    const struct backend_device *d = e->be->device;
    int64_t limit = d ? d->bytes - d->context_bytes : bytes;
    fit_advice(e->plan, e->rank, min64(limit, bytes - 1), advice);
    return error(STATUS_ENV, "%s; %s", said, advice);
}

/* The backend's own, where the plan has some. */
static void give_scratch(struct engine *e)
{
    if (e->ws->scratch)
        e->be->stream_scratch(e->s, e->ws->scratch, (size_t)e->ws->scratch_bytes);
    else if (e->be->device)
        notice(
            "the plan is for machines without a device: the %d MiB of scratch that operations take on it are "
            "beside what it counts",
            SCRATCH_BYTES >> 20);
}

int engine_init(struct engine *e, const struct plan *plan, const struct backend *be, struct stream *s,
                struct comm *comm)
{
    const struct model *m = &plan->model;
    *e = (struct engine){.plan = plan,
                         .model = m,
                         .rank = comm_rank(comm),
                         .be = be,
                         .s = s,
                         .comm = comm,
                         .overlap = plan->training.overlap,
                         .capture.off = "nobody has asked for it"};
    e->at = plan->ranks[e->rank];
    e->type = plan->training.precision == PRECISION_F32 ? F32 : BF16;
    e->T = plan_microbatch_tokens(plan);
    e->n = plan_local_tokens(plan);
    e->H = m->hidden;
    e->E = m->experts;
    e->K = m->top_k;
    e->tp = (int)plan->axes.tp;
    e->ep = (int)plan->axes.ep;
    e->etp = (int)plan->axes.etp;
    e->ws = &e->arena.ws;
    e->loss_scale = 1 / ((double)plan->batch.global * (double)plan->batch.seq);
    e->aux_scale = (double)plan->batch.micro / (double)plan->batch.global;
    if (fault("loss-scale-local"))
        e->loss_scale *= (double)plan->axes.dp;
    memcpy(e->loss_coef, m->loss_coef, sizeof e->loss_coef);
    shards_init(&e->shards, plan, e->rank);
    TRY(arena_layout(&e->arena, plan, e->rank, &e->shards, NULL));
    TRY(take_memory(e));
    arena_release(&e->arena);
    TRY(arena_layout(&e->arena, plan, e->rank, &e->shards, e->memory));
    if (e->ws->comm)
        comm_set_scratch(comm, e->ws->comm, (size_t)e->ws->comm_bytes);
    give_scratch(e);
    locate_all(e);
    TRY(make_groups(e));
    zero_lasting(e);
    upload_rope(e);
    upload_placement(e);
    TRY(make_dispatch(e));
    TRY(make_messages(e));
    buckets_init(e);
    profile_init(&e->profile, be, s);
    return 0;
}

void engine_release(struct engine *e)
{
    size_t count = (size_t)e->arena.stash_count * (size_t)e->dispatch_stride;
    if (e->buckets.list)
        buckets_release(e);
    for (size_t i = 0; e->dispatch && i < count; i++)
        dispatch_release(&e->dispatch[i]);
    for (int k = 0; k < GROUP_KINDS; k++)
        if (e->group[k])
            comm_group_free(e->group[k]);
    if (e->memory) {
        if (e->ws->scratch)
            e->be->stream_scratch(e->s, NULL, 0);
        fence_take_down(e->memory, (size_t)e->arena.bytes.total);
        e->be->free(e->memory, (size_t)e->arena.bytes.total);
    }
    capture_close(e);
    close_mail(e);
    if (e->profile.be)
        profile_release(&e->profile);
    messages_release(&e->messages, 1);
    free(e->dispatch);
    if (e->side)
        e->be->stream_free(e->side);
    if (e->rows)
        e->be->stream_free(e->rows);
    for (int i = 0; i < 3; i++) {
        struct event *event = (struct event *[]){e->routed, e->packed, e->landed}[i];
        if (event)
            e->be->event_free(event);
    }
    free(e->counts);
    free(e->blocks);
    free(e->send);
    free(e->recv);
    free(e->layers);
    free(e->figures);
    arena_release(&e->arena);
    shards_release(&e->shards);
    *e = (struct engine){0};
}

/* A stream of numbers for each tensor: its name and the run's seed. */
static uint64_t tensor_seed(const struct engine *e, const struct tensor *t, uint64_t seed)
{
    char name[128];
    tensor_name(e->model, t, name);
    uint64_t h = crc32(0, (const unsigned char *)name, (unsigned)strlen(name));
    return seed * 0x9e3779b97f4a7c15u + (h << 16) + strlen(name);
}

/* The state becomes this rank's slices of the weights. */
static void state_from_weights(struct engine *e, enum state s)
{
    for (int f = 0; f < 2; f++)
        for (struct slice x = {0}; shards_next(&e->shards, f, 0, e->shards.padded[f], &x);)
            e->be->convert(e->s,
                           &OP(convert, .count = x.count,
                               .x = (char *)e->arena.weights[f] + (size_t)x.first * type_bytes(e->type),
                               .y = e->arena.state[s][f] + x.place, .from = e->type, .to = F32, .scale = 1));
}

int engine_init_weights(struct engine *e, uint64_t seed)
{
    for (int i = 0; i < e->shards.count; i++) {
        const struct shard *s = &e->shards.list[i];
        const struct tensor *t = &e->plan->inventory.tensors[s->tensor];
        e->be->fill_normal(e->s, &OP(fill_normal, .rows = s->rows, .width = s->cols, .x = weight_at(e, s).w,
                                     .ldx = s->cols, .seed = tensor_seed(e, t, seed),
                                     .first = fault("init-local") ? 0 : s->row * t->cols + s->col,
                                     .stride = t->cols, .mean = t->ones ? 1 : 0,
                                     .std = t->ones || t->zeros ? 0 : (float)e->model->init_std,
                                     .type = s->flat == FLAT_BUFFER ? F32 : e->type));
        alive();
    }
    for (int i = 0; i < STATES; i++)
        if (states[i].from_weights && plan_keeps(e->plan, i))
            state_from_weights(e, i);
    return 0;
}
