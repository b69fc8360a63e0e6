/* SPDX-License-Identifier: MIT */
/* Streams and events of backends that compute on the host: queues of tasks.
 *
 * A task runs at once if nothing is before it in its stream, as it is but for host work that is not done yet
 * (a message under way), and for what waits behind that. Then a copy of the task is kept, and runs when it can:
 * whenever a call of this header goes through the streams. The host stands still only in sync() and download(),
 * and when a stream has become QUEUE_MOST tasks long.
 *
 * A backend has functions that compute (struct queued_op), and makes of them those of its table:
 *
 *     #define X(name) QUEUED(direct, name)       defines queued_NAME, which queues direct.NAME
 *     BACKEND_OPS(X)
 */
#ifndef KERNELS_QUEUE_H
#define KERNELS_QUEUE_H

#include "backend.h"

enum { QUEUE_MOST = 1024 };

/* How streams run, for backends that differ: all NULL is what the head of this file says. */
struct queue_policy {
    bool lazy;   /* tasks run only when something waits, or a stream is full */
    bool staged; /* host work sees copies of its ranges */
    /* Which of `count` streams that may go on does so, for one task; NULL: each in turn. */
    int (*pick)(int count);
    /* Around what touches device memory, and not while host work moves; calls do not nest. */
    void (*open)(void), (*close)(void);
};

/* An operation as a task. */
struct queued_op {
    const char *name;
    size_t bytes; /* of its struct */
    void (*run)(const void *op);
};
/* NULL for s: done before it returns, after nothing. So everywhere here. */
void queue_op(struct stream *s, const struct queued_op *kind, const void *op);

#define QUEUED(direct, name)                                                                                   \
    static void run_##name(const void *op)                                                                     \
    {                                                                                                          \
        direct.name(NULL, op);                                                                                 \
    }                                                                                                          \
    static void queued_##name(struct stream *s, const struct name *op)                                         \
    {                                                                                                          \
        static const struct queued_op kind = {#name, sizeof *op, run_##name};                                  \
        queue_op(s, &kind, op);                                                                                \
    }

/* Is told of each operation of ops.h that has run, with its struct and the seconds that it took; NULL, as
 * it is: nobody is. For the bench that says where a step's time goes (t/bench/profile). */
typedef void queue_watcher(const char *name, const void *op, double seconds);
extern queue_watcher *queue_watch;

/* `policy` must live on; NULL: none. */
struct stream *queue_stream_new(const struct queue_policy *policy);
/* A word for the backend beside each stream and event, NULL at first. */
void **queue_stream_note(struct stream *s);
void **queue_event_note(struct event *e);
/* Fills in all of a backend but its name, alloc, free and the operations of ops.h; a stream has no policy. */
void queue_install(struct backend *be);

#endif
