/* SPDX-License-Identifier: MIT */
/* Every operation of some steps, with its stream, start and end (moe-timeline(5)): events around each, for any
 * backend. */
#ifndef TRAIN_TIMELINE_H
#define TRAIN_TIMELINE_H

#include "backend.h"

struct timeline;

/* `spec` is A-B:FILE, or A:FILE for one step; of several ranks each writes FILE.RANK. NULL with error() set. */
struct timeline *timeline_open(const char *spec, const struct backend *be, int rank, int world);
/* What the run is to use instead of `be`. */
const struct backend *timeline_backend(struct timeline *t);
/* Whether it records any of the steps from `first` to `last`. */
bool timeline_records(const struct timeline *t, int64_t first, int64_t last);
/* The stream's name; without one it is "other". */
void timeline_name(struct timeline *t, const struct stream *s, const char *name);
/* What goes with the file's operations: who is in a group that they name, and whom a stream's messages go to or
 * come from (world ranks). 0 or -1. */
int timeline_group(struct timeline *t, const char *name, const int *ranks, int count);
int timeline_peer(struct timeline *t, const char *stream, int peer);
/* Around a step, which is recorded if it is one of A to B. What it queues may still be under way at its end,
 * but is done when the next has ended. 0 or -1. */
void timeline_begin(struct timeline *t, int64_t step, struct stream *s);
int timeline_end(struct timeline *t);
/* Waits for what is under way; the file gets its name, and nothing is recorded any more. NULL is fine. 0 or
 * -1. */
int timeline_close(struct timeline *t);
/* After that, and after the last use of its backend. */
void timeline_free(struct timeline *t);

#endif
