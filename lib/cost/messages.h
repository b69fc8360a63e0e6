/* SPDX-License-Identifier: MIT */
/* The messages between pipeline stages, and the order in which every stage queues them. The rule
 * messages-in-order proves this order, and engine/pipeline.c queues in it: both take it from messages_make().
 * A stage is a pipeline rank here, as in the plan's schedule records.
 *
 * Which there are. F of virtual stage v sends its output to F of v+1, and B of v its input's gradient to B of
 * v−1. They are always on neighbours, for the stages lie in a ring; with one stage nothing is sent.
 *
 * What is assumed is the least that any kind of communication does; NCCL does no more:
 *   - No tags: of two ranks, the k-th message that one sends is the k-th that the other receives from it. So a
 *     stage sends forward in the order of its F, and the next must run its F in that order; backward likewise.
 *   - Rendezvous: a message ends when both sides have come to it. Until then each side's queue stands still.
 *   - A stage has one queue, for both neighbours and both directions, and its operations may be in it too.
 * Who has a stream for each neighbour and direction, begins several at once in a group call, or buffers what is
 * sent, as MPI may, only waits less: what cannot deadlock here cannot deadlock there.
 *
 * The order is one for all stages: by the time at which both sides could begin, were sends not to wait
 * (cost/simulate.h with F = W = 1, B = 1 or 2). The sender can when its operation has ended; the receiver of an
 * activation when the last operation has ended that gives up memory before the F that takes it, of a gradient
 * at once, for it comes to where the output was. At one time gradients go first, for an activation may come to
 * where a gradient leaves; then by virtual stage and microbatch. With messages in a stream of their own nothing
 * is then later than in that simulation (t/unit/messages.c measures it).
 * It cannot deadlock: of the messages that have not ended, take the first in this order. On both sides it is
 * next in the queue, and the operations before it need only messages that come before it.
 * Likewise the members of a stage's other groups (tp, ep, dp …): they run one program, in step, so a rank's
 * messages and collectives are all queued in one consistent order. Groups over several stages (embed of a tied
 * model, pp for sums) are used only when the programs have ended.
 *
 * When. Sends are queued as soon as they can be: behind their operation and what comes before them in the
 * order; receives as late as they may: before the operation that takes them, or a send behind them. What is
 * queued between the same two operations may be begun in one group call, but an activation only when a gradient
 * before it has left, whose memory it may take. 1F1B, p = 2, m = 3, where > is to send and < to receive,
 * brackets are messages:
 *
 *   stage 0   F0 [>F0] F1 [<B0 >F1] B0 F2 [<B1 >F2] B1 [<B2] B2
 *   stage 1   [<F0] F0 B0 [>B0 <F1] F1 B1 [>B1 <F2] F2 B2 [>B2]
 *
 * Evaluation runs only the F, and leaves the gradients' messages out: that takes waits away and adds none. */
#ifndef COST_MESSAGES_H
#define COST_MESSAGES_H

#include "plan/plan.h"

struct stage_message {
    struct op op; /* of this stage: makes what is sent, takes what is received */
    int peer;     /* the other stage */
    bool send;
    int before; /* queued before operation number `before` of the program; at its end: the program's count */
};

/* What one stage queues, in order. */
struct stage_queue {
    struct stage_message *list;
    int count;
};

/* Fills queues [pp]. -1 with error() (status 1) as plan_simulate(), or when two stages' messages do not match
 * in order; there is nothing to release then. */
int messages_make(const struct plan *p, struct stage_queue *queues);
/* Plays the programs and queues (any, not only those made here) by the rules above. -1 with error() (status 1)
 * when they do not end, the text naming the stages that wait for each other in a circle and for what; when a
 * message meets another than its own; when an operation runs before its input is received, or a result is sent
 * before it is made. Takes time in proportion to the messages and operations. */
int messages_prove(const struct plan *p, const struct stage_queue *queues);
void messages_release(struct stage_queue *queues, int64_t pp);

#endif
