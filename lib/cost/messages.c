/* SPDX-License-Identifier: MIT */
#include "cost/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "cost/simulate.h"
#include "plan/schedule.h"

/* ---- which messages there are ---- */

static int64_t stages(const struct plan *p)
{
    return p->axes.pp * p->axes.vpp;
}

/* Does this operation of pipeline rank i send (or receive)? */
static bool has_message(const struct plan *p, int i, const struct op *o, bool send)
{
    int64_t end = (o->kind == 'F') == send ? stages(p) - 1 : 0;
    return o->kind != 'W' && p->axes.pp > 1 && plan_stage_of(p, i, o->chunk) != end;
}

static int peer_of(const struct plan *p, int i, const struct op *o, bool send)
{
    int pp = (int)p->axes.pp;
    return (i + ((o->kind == 'F') == send ? 1 : pp - 1)) % pp;
}

/* A message's number: by kind, sending virtual stage and microbatch. */
static int64_t number_of(const struct plan *p, int i, const struct op *o, bool send)
{
    int stage = plan_stage_of(p, i, o->chunk);
    if (!send)
        stage += o->kind == 'F' ? -1 : 1;
    return ((o->kind == 'F' ? stages(p) : 0) + stage) * p->batch.microbatches + o->microbatch;
}

static int64_t numbers(const struct plan *p)
{
    return 2 * stages(p) * p->batch.microbatches;
}

/* One of the four kinds of messages of a rank, gone through in the order of the program. */
struct lane {
    char kind;
    bool send;
    int at; /* the operation whose message is next; the program's count: none is left */
};
enum { LANES = 4 };
static const struct lane lanes[LANES] = {{'B', true, -1}, {'B', false, -1}, {'F', true, -1}, {'F', false, -1}};

static void lane_next(const struct plan *p, int i, struct lane *l)
{
    const struct program *g = &p->programs[i];
    do
        l->at++;
    while (l->at < g->count && (g->ops[l->at].kind != l->kind || !has_message(p, i, &g->ops[l->at], l->send)));
}

/* What rank i sends one way is what its neighbour receives, in order. */
static int lane_matches(const struct plan *p, int i, char kind)
{
    const struct program *from = &p->programs[i];
    int to = peer_of(p, i, &(struct op){.kind = kind}, true);
    struct lane out = {kind, true, -1}, in = {kind, false, -1};
    for (int k = 0;; k++) {
        lane_next(p, i, &out);
        lane_next(p, to, &in);
        if (out.at == from->count)
            return 0;
        const struct op *sent = &from->ops[out.at], *taken = &p->programs[to].ops[in.at];
        char name[OP_TEXT], other[OP_TEXT];
        if (number_of(p, i, sent, true) != number_of(p, to, taken, false))
            return error(STATUS_NO,
                         "message %d %s from stage %d to stage %d: stage %d sends what %s made, stage %d "
                         "receives for %s",
                         k, kind == 'F' ? "forward" : "backward", i, to, i,
                         op_text(sent, p->axes.vpp > 1, name), to, op_text(taken, p->axes.vpp > 1, other));
    }
}

/* ---- the order ---- */

static void later(double *at, double s)
{
    if (*at < s)
        *at = s;
}

/* When both sides of each message could begin: [numbers]. */
static double *message_times(const struct plan *p, const struct simulation *s)
{
    double *at = xcalloc(numbers(p), sizeof *at);
    for (int i = 0; i < p->axes.pp; i++) {
        const struct program *g = &p->programs[i];
        bool split = program_splits_backward(g);
        double freed_s = 0;
        for (int k = 0; k < g->count; k++) {
            const struct op *o = &g->ops[k];
            double end_s = s->start_s[i][k] + op_units(o, split);
            if (has_message(p, i, o, true))
                later(&at[number_of(p, i, o, true)], end_s);
            if (o->kind == 'F' && has_message(p, i, o, false))
                later(&at[number_of(p, i, o, false)], freed_s);
            if (o->kind == (split ? 'W' : 'B'))
                freed_s = end_s;
        }
    }
    return at;
}

/* The lane whose message is next in the order, or NULL. Gradients have the smaller numbers. */
static struct lane *first_lane(const struct plan *p, int i, struct lane l[static LANES], const double *at)
{
    const struct program *g = &p->programs[i];
    struct lane *first = NULL;
    int64_t least = 0;
    for (int k = 0; k < LANES; k++) {
        if (l[k].at == g->count)
            continue;
        int64_t n = number_of(p, i, &g->ops[l[k].at], l[k].send);
        if (!first || at[n] < at[least] || (at[n] == at[least] && n < least)) {
            first = &l[k];
            least = n;
        }
    }
    return first;
}

/* Rank i's messages in order: every lane is in order already. */
static void make_queue(const struct plan *p, int i, const double *at, struct stage_queue *q)
{
    const struct program *g = &p->programs[i];
    struct lane l[LANES], *next;
    int ready = 0; /* the first operation before which all that is queued so far can be */
    *q = (struct stage_queue){.list = xcalloc(2 * (size_t)g->count + 1, sizeof *q->list)};
    int *freed = xcalloc((size_t)g->count + 1, sizeof *freed); /* behind the last that gave up memory */
    char last = program_splits_backward(g) ? 'W' : 'B';
    for (int k = 0; k < g->count; k++)
        freed[k + 1] = g->ops[k].kind == last ? k + 1 : freed[k];
    for (int k = 0; k < LANES; k++) {
        l[k] = lanes[k];
        lane_next(p, i, &l[k]);
    }
    for (; (next = first_lane(p, i, l, at)); lane_next(p, i, next)) {
        const struct op *o = &g->ops[next->at];
        int can = next->send ? next->at + 1 : next->kind == 'F' ? freed[next->at] : 0;
        ready = can > ready ? can : ready;
        q->list[q->count++] = (struct stage_message){.op = *o,
                                                     .peer = peer_of(p, i, o, next->send),
                                                     .send = next->send,
                                                     .before = next->send ? ready : next->at};
    }
    for (int k = q->count - 2; k >= 0; k--)
        if (q->list[k].before > q->list[k + 1].before)
            q->list[k].before = q->list[k + 1].before;
    free(freed);
}

int messages_make(const struct plan *p, struct stage_queue *queues)
{
    struct simulation s;
    TRY(plan_simulate(p, 1, 1, 1, &s));
    int r = 0;
    for (int i = 0; i < p->axes.pp && r == 0 && p->axes.pp > 1; i++)
        r = lane_matches(p, i, 'F') < 0 ? -1 : lane_matches(p, i, 'B');
    if (r == 0) {
        double *at = message_times(p, &s);
        for (int i = 0; i < p->axes.pp; i++)
            make_queue(p, i, at, &queues[i]);
        free(at);
    }
    simulation_release(&s);
    return r;
}

void messages_release(struct stage_queue *queues, int64_t pp)
{
    for (int64_t i = 0; i < pp; i++) {
        free(queues[i].list);
        queues[i] = (struct stage_queue){0};
    }
}

/* ---- the proof ---- */

struct strict {
    const struct plan *p;
    const struct stage_queue *queues;
    int *op, *message;    /* [pp] what each rank comes to next */
    bool *made, *arrived; /* [numbers] */
};

/* The message that rank i stands at; NULL where an operation is next, or nothing. */
static const struct stage_message *stands_at(const struct strict *y, int i)
{
    const struct stage_queue *q = &y->queues[i];
    const struct stage_message *m = &q->list[y->message[i]];
    if (y->message[i] == q->count || (m->before > y->op[i] && y->op[i] < y->p->programs[i].count))
        return NULL;
    return m;
}

static int run_op(struct strict *y, int i)
{
    const struct plan *p = y->p;
    const struct op *o = &p->programs[i].ops[y->op[i]];
    char name[OP_TEXT];
    if (has_message(p, i, o, false) && !y->arrived[number_of(p, i, o, false)])
        return error(STATUS_NO, "stage %d runs %s before it has received what that needs", i,
                     op_text(o, p->axes.vpp > 1, name));
    if (has_message(p, i, o, true))
        y->made[number_of(p, i, o, true)] = true;
    y->op[i]++;
    return 0;
}

/* Rank i and its peer both stand at a message for the other, one to send it and one to receive it. */
static int pass(struct strict *y, int i)
{
    const struct plan *p = y->p;
    const struct stage_message *a = stands_at(y, i);
    int from = a->send ? i : a->peer, to = a->send ? a->peer : i;
    const struct op *sent = &stands_at(y, from)->op, *taken = &stands_at(y, to)->op;
    int64_t number = number_of(p, from, sent, true);
    char name[OP_TEXT], other[OP_TEXT];
    if (number != number_of(p, to, taken, false))
        return error(STATUS_NO, "stage %d sends what %s made when stage %d receives for %s", from,
                     op_text(sent, p->axes.vpp > 1, name), to, op_text(taken, p->axes.vpp > 1, other));
    if (!y->made[number])
        return error(STATUS_NO, "stage %d sends what %s makes before it has run", from,
                     op_text(sent, p->axes.vpp > 1, name));
    y->arrived[number] = true;
    y->message[from]++;
    y->message[to]++;
    return 0;
}

/* Rank i goes on until it waits for its peer or ends. *passed: the peer that a message brought further, or −1.
 */
static int go_on(struct strict *y, int i, int *passed)
{
    *passed = -1;
    while (*passed < 0) {
        const struct stage_message *a = stands_at(y, i), *b;
        if (!a) {
            if (y->op[i] == y->p->programs[i].count)
                return 0;
            TRY(run_op(y, i));
            continue;
        }
        b = stands_at(y, a->peer);
        if (!b || b->peer != i || b->send == a->send)
            return 0;
        TRY(pass(y, i));
        *passed = a->peer;
    }
    return 0;
}

/* From rank i, which waits, to the first of those that wait for each other in a circle; or to one that has
 * ended. */
static int circle_from(const struct strict *y, int i)
{
    for (int k = 0; k < y->p->axes.pp && stands_at(y, i); k++)
        i = stands_at(y, i)->peer;
    int first = i;
    if (stands_at(y, i))
        for (int at = stands_at(y, i)->peer; at != i; at = stands_at(y, at)->peer)
            first = at < first ? at : first;
    return first;
}

static int say_circle(const struct strict *y, int i)
{
    enum { NAMED = 5 };
    char text[400] = "", name[OP_TEXT];
    const struct stage_message *m;
    int first = circle_from(y, i), at = first, length = 0;
    if (!stands_at(y, first))
        return error(STATUS_NO, "deadlock: stage %d has ended, and messages with it are left", first);
    do {
        size_t n = strlen(text);
        m = stands_at(y, at);
        if (length++ < NAMED)
            snprintf(text + n, sizeof text - n, "%sstage %d waits to %s %s %s stage %d", n ? ", " : "", at,
                     m->send ? "send what" : "receive for", op_text(&m->op, y->p->axes.vpp > 1, name),
                     m->send ? "made to" : "from", m->peer);
        at = m->peer;
    } while (at != first);
    return error(STATUS_NO, "deadlock: %s%s", text, length > NAMED ? ", and so on round a circle" : "");
}

static int play(struct strict *y)
{
    int pp = (int)y->p->axes.pp, waiting = pp, r = 0;
    int *stack = xcalloc(pp, sizeof *stack);
    bool *stacked = xcalloc(pp, sizeof *stacked);
    for (int i = 0; i < pp; i++) {
        stack[i] = pp - 1 - i;
        stacked[i] = true;
    }
    while (waiting > 0 && r == 0) {
        int i = stack[--waiting], passed;
        stacked[i] = false;
        while ((r = go_on(y, i, &passed)) == 0 && passed >= 0)
            if (!stacked[passed]) {
                stack[waiting++] = passed;
                stacked[passed] = true;
            }
    }
    for (int i = 0; i < pp && r == 0; i++)
        if (stands_at(y, i))
            r = say_circle(y, i);
    free(stack);
    free(stacked);
    return r;
}

int messages_prove(const struct plan *p, const struct stage_queue *queues)
{
    struct strict y = {.p = p, .queues = queues};
    y.op = xcalloc(p->axes.pp, sizeof *y.op);
    y.message = xcalloc(p->axes.pp, sizeof *y.message);
    y.made = xcalloc(numbers(p), sizeof *y.made);
    y.arrived = xcalloc(numbers(p), sizeof *y.arrived);
    int r = play(&y);
    free(y.op);
    free(y.message);
    free(y.made);
    free(y.arrived);
    return r;
}
