/* SPDX-License-Identifier: MIT */
/* Streams, events, and work of the host in their order.
 *
 * A device's stream cannot wait for the host. So host work holds back what is queued behind it: that is kept
 * here, and goes to the device when the work is done; and so is a wait for an event that has itself not gone
 * to the device yet. Without host work everything goes to the device at once. What is kept moves on in calls
 * that wait and in poll(); when it is QUEUE_MOST long in one stream, the host waits for half of it. */
#ifndef KERNELS_CUDA_STREAMS_H
#define KERNELS_CUDA_STREAMS_H

#include <functional>

#include "cuda.h"

/* What the backend's table has of streams and events (backend.h). */
struct stream *stream_make(void);
void stream_end(struct stream *s);
struct event *event_make(void);
void event_end(struct event *e);
void event_mark(struct event *e, struct stream *s);
void event_await(struct stream *s, struct event *e);
double event_elapsed(const struct event *from, const struct event *to);
void work_queue(struct stream *s, struct host_work *w);
int work_poll(void);

/* The first of all streams; the others follow by `next`. */
struct stream *stream_first(void);
/* Whether nothing is kept of s, so that what comes next may go to the device; first everything moves on.
 * What is captured into a graph goes there at once. */
bool stream_clear(struct stream *s);
/* Runs `issue`, which gives the device something to do in the stream, in its turn: at once, unless something is
 * kept before it. */
void stream_issue(struct stream *s, std::function<void()> issue);
/* Until nothing is kept, and the device is done: what failed is still to be taken, or is an error. */
void stream_finish(struct stream *s);
int stream_sync(struct stream *s);
/* What stands for no stream (backend.h), where all that is queued is finished at once. */
struct stream *stream_aside(void);

#endif
