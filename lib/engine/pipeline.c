/* SPDX-License-Identifier: MIT */
/* The pipeline: interprets this stage's program, one op after another. Any schedule is just another program.
 *
 * F takes the stage's input from the one before (or embeds), B the gradient from the one after (or makes it
 * from the loss). What is sent stays in its stash; the request is waited for when that memory is needed again.
 *
 * An output has then long been received, as its gradient came back. A gradient may not have been: its reader
 * could be busy with an F that waits for us. So the receive of a gradient is begun as soon as the output is on
 * its way, into the output's own place: nobody can send the gradient before having the output. Thus no send
 * waits for the other side's program; the program can only deadlock as a program, and moe-plan-check proves
 * that it does not. */
#include "engine/pipeline.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/head.h"
#include "engine/layer.h"

struct pending {
    struct comm_request *request;
    int64_t begin, end; /* the stash's place in the activation region */
};

struct walk {
    struct engine *e;
    const int32_t *tokens;
    bool split;
    struct pending *pending;
    int count;
    struct comm_request *
        *gradient; /* [chunk·microbatches + microbatch]: under way from another rank, or NULL */
};

static int wait_for(struct engine *e, struct comm_request *r)
{
    double idle_s = 0;
    enum phase before = profile_enter(&e->profile, PHASE_PP);
    int ok = comm_wait(r, &idle_s);
    profile_enter(&e->profile, before);
    profile_move(&e->profile, PHASE_PP, PHASE_IDLE, idle_s);
    return ok;
}

/* Waits for what is still being sent out of [begin,end). */
static int settle(struct walk *run, int64_t begin, int64_t end)
{
    for (int i = run->count - 1; i >= 0; i--) {
        struct pending *p = &run->pending[i];
        if (p->end <= begin || p->begin >= end)
            continue;
        struct comm_request *r = p->request;
        *p = run->pending[--run->count];
        TRY(wait_for(run->e, r));
    }
    return 0;
}

enum direction { FORWARD, BACKWARD };

/* One tag for each (receiving stage, microbatch, direction). */
static int tag_of(const struct engine *e, int stage, int microbatch, enum direction dir)
{
    return (int)(((stage * e->plan->batch.microbatches + microbatch) * 2 + dir) % COMM_TAGS);
}

static struct stash *stash_of(struct engine *e, int stage, int microbatch)
{
    int chunk = e->plan->stages[stage].chunk;
    return &e->arena.stashes[e->arena.stash_of_op[chunk * e->plan->batch.microbatches + microbatch]];
}

static size_t edge_bytes(const struct engine *e)
{
    return (size_t)(e->n * e->H) * type_bytes(e->type);
}

/* x goes to `stage`. Within a rank: gradients are handed over here, activations are fetched by their reader. */
static int send_to(struct walk *run, struct stash *stash, int stage, int microbatch, enum direction dir,
                   void *x)
{
    struct engine *e = run->e;
    const struct stage *to = &e->plan->stages[stage];
    if (to->pp == e->at.pp) {
        if (dir == BACKWARD)
            e->be->copy(e->s, stash_of(e, stage, microbatch)->x[to->layers], x, edge_bytes(e));
        return 0;
    }
    enum phase before = profile_enter(&e->profile, PHASE_PP);
    struct comm_request *r =
        comm_send(e->group[GROUP_PP], to->pp, tag_of(e, stage, microbatch, dir), x, edge_bytes(e));
    profile_enter(&e->profile, before);
    if (!r)
        return -1;
    run->pending[run->count++] = (struct pending){.request = r, .begin = stash->begin, .end = stash->end};
    return 0;
}

/* The stage's input, from the stage before. */
static int recv_input(struct walk *run, struct stash *stash, int microbatch)
{
    struct engine *e = run->e;
    int from = stash->stage - 1;
    const struct stage *source = &e->plan->stages[from];
    if (source->pp == e->at.pp) {
        e->be->copy(e->s, stash->x[0], stash_of(e, from, microbatch)->x[source->layers], edge_bytes(e));
        return 0;
    }
    struct comm_request *r =
        comm_recv(e->group[GROUP_PP], source->pp, tag_of(e, stash->stage, microbatch, FORWARD), stash->x[0],
                  edge_bytes(e));
    return r ? wait_for(e, r) : -1;
}

static struct comm_request **gradient_of(struct walk *run, int stage, int microbatch)
{
    struct engine *e = run->e;
    return &run->gradient[e->plan->stages[stage].chunk * e->plan->batch.microbatches + microbatch];
}

/* The output is on its way to the next stage; begins to receive its gradient. */
static int expect_gradient(struct walk *run, struct stash *stash, int microbatch)
{
    struct engine *e = run->e;
    int v = stash->stage;
    const struct stage *from = &e->plan->stages[v + 1];
    if (e->evaluate || from->pp == e->at.pp)
        return 0;
    struct comm_request **r = gradient_of(run, v, microbatch);
    int tag = tag_of(e, v, fault("pipeline-microbatch") ? microbatch ^ 1 : microbatch, BACKWARD);
    *r = comm_recv(e->group[GROUP_PP], from->pp, tag, stash->x[e->plan->stages[v].layers], edge_bytes(e));
    return *r ? 0 : -1;
}

/* The gradient of the output is in its place; from a stage of this rank it already was. */
static int await_gradient(struct walk *run, struct stash *stash, int microbatch)
{
    struct comm_request **at = gradient_of(run, stash->stage, microbatch), *r = *at;
    *at = NULL;
    return wait_for(run->e, r);
}

static void upload_tokens(struct walk *run, struct stash *stash, int microbatch)
{
    struct engine *e = run->e;
    int64_t S = e->plan->batch.seq, micro = e->plan->batch.micro;
    const int32_t *from = run->tokens + microbatch * micro * (S + 1);
    for (int64_t i = 0; i < micro; i++, from += S + 1) {
        if (stash->tokens)
            e->be->upload(e->s, stash->tokens + i * S, from, (size_t)S * 4);
        if (stash->targets)
            e->be->upload(e->s, stash->targets + i * S, from + 1, (size_t)S * 4);
    }
}

static int run_forward(struct walk *run, struct stash *stash, int microbatch)
{
    struct engine *e = run->e;
    int v = stash->stage, layers = e->plan->stages[v].layers;
    TRY(settle(run, stash->begin, stash->end));
    upload_tokens(run, stash, microbatch);
    if (v == 0)
        TRY(embed_forward(e, stash));
    else
        TRY(recv_input(run, stash, microbatch));
    for (int i = 0; i < layers; i++)
        TRY(layer_forward(e, stash, i));
    if (v + 1 < e->plan->stage_count) {
        TRY(send_to(run, stash, v + 1, microbatch, FORWARD, stash->x[layers]));
        return expect_gradient(run, stash, microbatch);
    }
    return e->evaluate ? head_step(e, stash, stash->x[layers]) : 0;
}

static int run_backward(struct walk *run, struct stash *stash, int microbatch)
{
    struct engine *e = run->e;
    int v = stash->stage, layers = e->plan->stages[v].layers;
    void *d = stash->x[layers];
    TRY(settle(run, stash->begin, stash->end));
    if (v + 1 == e->plan->stage_count)
        TRY(head_step(e, stash, d));
    else
        TRY(await_gradient(run, stash, microbatch));
    for (int i = layers - 1; i >= 0; i--)
        TRY(layer_backward(e, stash, i, d, run->split));
    if (v == 0)
        return embed_backward(e, stash, d);
    return send_to(run, stash, v - 1, microbatch, BACKWARD, d);
}

static int run_weights(struct walk *run, struct stash *stash)
{
    for (int i = run->e->plan->stages[stash->stage].layers - 1; i >= 0; i--)
        TRY(layer_weights(run->e, stash, i));
    return 0;
}

static int run_op(struct walk *run, const struct op *op)
{
    struct engine *e = run->e;
    int stage = plan_stage_of(e->plan, e->at.pp, op->chunk);
    struct stash *stash = stash_of(e, stage, op->microbatch);
    e->microbatch = op->microbatch * e->plan->axes.dp + e->at.dp;
    profile_enter(&e->profile, op->kind == 'F' ? PHASE_FORWARD : PHASE_BACKWARD);
    switch (op->kind) {
    case 'F':
        return run_forward(run, stash, op->microbatch);
    case 'B':
        return e->evaluate ? 0 : run_backward(run, stash, op->microbatch);
    default:
        return e->evaluate ? 0 : run_weights(run, stash);
    }
}

int pipeline_run(struct engine *e, const struct program *g, const int32_t *tokens)
{
    size_t count = (size_t)(e->plan->axes.vpp * e->plan->batch.microbatches);
    struct walk run = {.e = e,
                       .tokens = tokens,
                       .split = program_splits_backward(g),
                       .pending = xcalloc((size_t)g->count + 1, sizeof(struct pending)),
                       .gradient = xcalloc(count, sizeof(struct comm_request *))};
    int r = 0;
    for (int i = 0; i < g->count && r == 0; i++)
        r = run_op(&run, &g->ops[i]);
    if (r == 0)
        r = settle(&run, 0, INT64_MAX);
    free(run.pending);
    free(run.gradient);
    profile_enter(&e->profile, PHASE_IDLE);
    return r;
}
