/* SPDX-License-Identifier: MIT */
/* The pipeline: interprets this stage's program, one op after another. Any schedule is just another program.
 *
 * F takes the stage's input from the one before (or embeds), B the gradient from the one after (or makes it
 * from the loss). Messages are queued as cost/messages.h orders them, which moe-plan-check proved free of
 * deadlock even if each waited for its partner before the next is begun, in streams of their own: computation
 * waits for what it takes when it takes it, and for what was sent out of a stash when that memory is needed
 * again; with --overlap off, for each message at once. The gradient of an output comes to the output's own
 * place. */
#include "engine/pipeline.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "engine/buckets.h"
#include "engine/capture.h"
#include "engine/head.h"
#include "engine/layer.h"

/* What is still being sent out of a stash. */
struct pending {
    int message;
    int64_t begin, end; /* the stash's place in the activation region */
};

struct walk {
    struct engine *e;
    const int32_t *tokens;
    int queued; /* of the stage's messages */
    struct pending *pending;
    int count;
    bool *begun; /* [chunk][2] its gradients, by B and by W */
    int *input;  /* [chunk·microbatches + microbatch] the message that F, later B, receives, or NO_MESSAGE */
};
enum { NO_MESSAGE = -1 };

/* Later work in s, which overwrites [begin,end), begins when that has been sent. */
static void settle(struct walk *run, struct stream *s, int64_t begin, int64_t end)
{
    struct engine *e = run->e;
    for (int i = run->count - 1; i >= 0; i--) {
        const struct pending *p = &run->pending[i];
        if (p->end <= begin || p->begin >= end)
            continue;
        if (!left_out("sent-not-awaited"))
            e->be->event_wait(s, e->delivered[p->message]);
        if (s == e->s) /* where all that uses the stash is, or waits for */
            run->pending[i] = run->pending[--run->count];
    }
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

static int *input_of(struct walk *run, const struct op *op)
{
    return &run->input[op->chunk * run->e->plan->batch.microbatches + op->microbatch];
}

static const struct mail *mail_with(const struct engine *e, int peer)
{
    return &e->mail[e->mail[0].peer != peer];
}

/* All later work in s waits for the message. */
static void stand_still(struct engine *e, int number)
{
    enum phase before = e->messages.list[number].send ? profile_enter(&e->profile, PHASE_PP)
                                                      : profile_await(&e->profile, &e->times[number]);
    e->be->event_wait(e->s, e->delivered[number]);
    profile_enter(&e->profile, before);
}

/* Its stream waits for what s has queued so far: the result is there, the place is free. */
static int queue_message(struct walk *run, int number)
{
    struct engine *e = run->e;
    const struct stage_message *m = &e->messages.list[number];
    const struct mail *mail = mail_with(e, m->peer);
    struct stream *s = m->send ? mail->out : mail->in;
    int microbatch = m->op.microbatch;
    if (fault("pipeline-microbatch") && m->op.kind == 'B' && !m->send)
        microbatch = (microbatch + 1) % (int)e->plan->batch.microbatches;
    struct stash *stash = stash_of(e, plan_stage_of(e->plan, e->at.pp, m->op.chunk), microbatch);
    void *in = stash->x[0], *out = stash->x[e->plan->stages[stash->stage].layers];
    e->be->event_record(e->ready, e->s);
    if (!left_out(m->send ? "result-not-awaited" : "place-not-awaited"))
        e->be->event_wait(s, e->ready);
    if (m->send) {
        TRY(comm_send(e->group[GROUP_PP], s, m->peer, out, edge_bytes(e)));
    } else {
        settle(run, s, stash->begin, stash->end);
        TRY(comm_recv(e->group[GROUP_PP], s, m->peer, m->op.kind == 'F' ? in : out, edge_bytes(e),
                      &e->times[number]));
    }
    e->be->event_record(e->delivered[number], s);
    if (e->held)
        stand_still(e, number);
    else if (m->send)
        run->pending[run->count++] = (struct pending){number, stash->begin, stash->end};
    else
        *input_of(run, &m->op) = number;
    return 0;
}

/* All that is due before the program's operation k. */
static int queue_messages(struct walk *run, int k)
{
    const struct stage_queue *q = &run->e->messages;
    for (; run->queued < q->count && q->list[run->queued].before <= k; run->queued++)
        if (!run->e->evaluate || q->list[run->queued].op.kind == 'F')
            TRY(queue_message(run, run->queued));
    return 0;
}

/* What the operation receives is in its place for later work. */
static void await_input(struct walk *run, const struct op *op)
{
    struct engine *e = run->e;
    int *at = input_of(run, op);
    if (*at != NO_MESSAGE) {
        enum phase before = profile_await(&e->profile, &e->times[*at]);
        if (!left_out("input-not-awaited"))
            e->be->event_wait(e->s, e->delivered[*at]);
        profile_enter(&e->profile, before);
    }
    *at = NO_MESSAGE;
}

/* Between stages of one rank: activations are fetched by their reader, gradients handed over. */
static bool is_here(const struct engine *e, int stage)
{
    return e->plan->stages[stage].pp == e->at.pp;
}

static void fetch_input(struct engine *e, struct stash *stash, int microbatch)
{
    int from = stash->stage - 1;
    void *x = stash_of(e, from, microbatch)->x[e->plan->stages[from].layers];
    e->be->copy(e->s, stash->x[0], x, edge_bytes(e));
}

static void hand_gradient(struct engine *e, const struct stash *stash, int microbatch, const void *d)
{
    int to = stash->stage - 1;
    e->be->copy(e->s, stash_of(e, to, microbatch)->x[e->plan->stages[to].layers], d, edge_bytes(e));
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

/* ---- what a stage computes: the same operations for each microbatch in a stash ---- */

static bool is_last(const struct engine *e, const struct stash *stash)
{
    return stash->stage + 1 == e->plan->stage_count;
}

static int compute_forward(struct engine *e, struct stash *stash)
{
    int layers = e->plan->stages[stash->stage].layers;
    if (stash->stage == 0) {
        weights_await(e, 0);
        TRY(embed_forward(e, stash));
    }
    for (int i = 0; i < layers; i++) {
        weights_await(e, 1 + i);
        TRY(layer_forward(e, stash, i));
    }
    if (!e->evaluate || !is_last(e, stash))
        return 0;
    weights_await(e, layers + 1);
    return head_step(e, stash, stash->x[layers]);
}

static int compute_backward(struct engine *e, struct stash *stash)
{
    int layers = e->plan->stages[stash->stage].layers;
    void *d = stash->x[layers];
    if (is_last(e, stash)) {
        weights_await(e, 0);
        TRY(head_step(e, stash, d));
        TRY(gradients_done(e, 0));
    }
    for (int i = layers - 1; i >= 0; i--) {
        TRY(layer_backward(e, stash, i, d, e->split));
        TRY(gradients_done(e, layers - i));
    }
    if (stash->stage > 0)
        return 0;
    TRY(embed_backward(e, stash, d));
    return gradients_done(e, layers + 1);
}

static int compute_weights(struct engine *e, struct stash *stash)
{
    int layers = e->plan->stages[stash->stage].layers;
    for (int i = layers - 1; i >= 0; i--) {
        TRY(layer_weights(e, stash, i));
        TRY(gradients_done(e, layers - i));
    }
    return 0;
}

/* A graph, unless something goes on beside some layer of it. */
static int compute(struct engine *e, enum captured_part part, struct stash *stash,
                   int (*work)(struct engine *e, struct stash *stash))
{
    return buckets_within(e) ? work(e, stash) : capture_run(e, part, stash, work);
}

/* ---- operations of the program ---- */

static int run_forward(struct walk *run, struct stash *stash, const struct op *op)
{
    struct engine *e = run->e;
    int v = stash->stage;
    settle(run, e->s, stash->begin, stash->end);
    upload_tokens(run, stash, op->microbatch);
    if (v > 0 && is_here(e, v - 1))
        fetch_input(e, stash, op->microbatch);
    else if (v > 0)
        await_input(run, op);
    return compute(e, e->evaluate ? CAPTURED_EVALUATION : CAPTURED_FORWARD, stash, compute_forward);
}

static int run_backward(struct walk *run, struct stash *stash, const struct op *op)
{
    struct engine *e = run->e;
    int v = stash->stage;
    settle(run, e->s, stash->begin, stash->end);
    if (!is_last(e, stash))
        await_input(run, op);
    TRY(compute(e, CAPTURED_BACKWARD, stash, compute_backward));
    if (v > 0 && is_here(e, v - 1))
        hand_gradient(e, stash, op->microbatch, stash->x[e->plan->stages[v].layers]);
    return 0;
}

static int run_op(struct walk *run, const struct op *op)
{
    struct engine *e = run->e;
    int stage = plan_stage_of(e->plan, e->at.pp, op->chunk);
    struct stash *stash = stash_of(e, stage, op->microbatch);
    e->microbatch = op->microbatch * e->plan->axes.dp + e->at.dp;
    profile_enter(&e->profile, op->kind == 'F' ? PHASE_FORWARD : PHASE_BACKWARD);
    bool *begun = &run->begun[2 * op->chunk + (op->kind == 'W')];
    e->fresh = op->kind != 'F' && !*begun && !fault("gradients-stale");
    *begun |= op->kind != 'F';
    switch (op->kind) {
    case 'F':
        return run_forward(run, stash, op);
    case 'B':
        return e->evaluate ? 0 : run_backward(run, stash, op);
    default:
        return e->evaluate ? 0 : compute(e, CAPTURED_WEIGHTS, stash, compute_weights);
    }
}

int pipeline_run(struct engine *e, const struct program *g, const int32_t *tokens)
{
    size_t count = (size_t)(e->plan->axes.vpp * e->plan->batch.microbatches);
    struct walk run = {.e = e,
                       .tokens = tokens,
                       .pending = xcalloc((size_t)e->messages.count + 1, sizeof(struct pending)),
                       .begun = xcalloc(2 * (size_t)e->plan->axes.vpp, sizeof *run.begun),
                       .input = xmalloc(count * sizeof *run.input)};
    for (size_t i = 0; i < count; i++)
        run.input[i] = NO_MESSAGE;
    e->split = program_splits_backward(g);
    int r = capture_make(e);
    for (int i = 0; i < g->count && r == 0; i++) {
        buckets_at(e, i);
        r = queue_messages(&run, i) < 0 ? -1 : run_op(&run, &g->ops[i]);
    }
    if (r == 0)
        r = queue_messages(&run, g->count);
    settle(&run, e->s, 0, INT64_MAX);
    free(run.pending);
    free(run.begun);
    free(run.input);
    profile_enter(&e->profile, PHASE_IDLE);
    return r;
}
