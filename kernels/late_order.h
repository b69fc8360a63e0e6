/* SPDX-License-Identifier: MIT */
/* Happens before: whether what is queued is ordered, whatever the order in which it runs.
 *
 * Each stream, and the host, counts its tasks and knows a clock: how many of each other stream's tasks are
 * certainly done when its next task begins (vector clocks, Fidge 1988, Mattern 1989). A task knows what the host
 * knew when it queued it; a wait for an event adds what the event's stream knew when the event was recorded; the
 * host learns what a stream knows by waiting for it. Each byte of device memory remembers the task that wrote it
 * last and those that read it since. A task that touches it must know that writer, and to write it must know
 * the readers too. Otherwise nothing orders the two: failure_set() names both and the bytes, the next sync()
 * returns it. So it is when a task reads what was never written. */
#ifndef KERNELS_LATE_ORDER_H
#define KERNELS_LATE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "access.h"

enum { ORDER_HOST = 0, ORDER_STREAMS = 64 };
struct order_clock {
    uint32_t tasks[ORDER_STREAMS];
};

/* Memory comes, nothing in it being written, and goes; whether everything that touches it is done then. */
void order_block(void *p, size_t bytes);
bool order_block_gone(void *p);

/* A stream's number, from 1; those of streams that are gone come again. 0 with failure_set() when there are too
 * many. The host waits for a stream before it goes. */
int order_stream(void);
void order_stream_gone(int stream);

/* The next task of a stream, or of the host: its name lives on. Then what it touches, first what it reads. */
void order_task(int stream, const char *name);
void order_reads(const struct access *a);
void order_writes(const struct access *a);

/* An event is recorded: what the stream knows. It is waited for. The host waits for all that is in a stream. */
void order_record(int stream, struct order_clock *event);
void order_wait(int stream, const struct order_clock *event);
void order_sync(int stream);

#endif
