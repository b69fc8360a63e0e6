/* SPDX-License-Identifier: MIT */
/* Captured steps. What a stage computes of a microbatch is hundreds of operations, each queued by the host,
 * over and over with the same operands: all that changes from one microbatch or step to the next lies in
 * device memory. So where nothing in it waits for the host, it is queued as it is in the first step (which also
 * loads, connects and chooses what a first use must), becomes a graph of the device before the next, and from
 * then on is queued whole. The numbers are the same, bit for bit.
 *
 * With tp above 1 communication lies within. NCCL's may be captured, in graphs that all ranks of the tp group
 * capture and launch alike, as the group agrees on the host for each graph that is made. What the host moves
 * (MPI) may not.
 *
 * Off with ep above 1, where the host says how long messages are; with etp, whose groups are others than tp's;
 * where the backend has no graphs; and where a dump or a timeline wants to see each operation. Phases within a
 * graph are not told apart: all of it is forward or backward. Graphs take memory of the driver's, beside the
 * plan's. */
#ifndef ENGINE_CAPTURE_H
#define ENGINE_CAPTURE_H

#include "engine/engine.h"

/* Decides whether, for engine_init()'s engine, which captures nothing before. */
void capture_open(struct engine *e, bool wanted);
void capture_close(struct engine *e);

/* Before a program begins, when all is done of the one before: makes graphs of what has been done once. To make
 * one may wait for the whole device, which then must not wait for a rank that may be lost. Collective over the
 * tp group. 0 or -1. */
int capture_make(struct engine *e);
/* work(e, stash), itself or as the graph made of it: always the same one for a part and a stash. Where the
 * engine is `fresh` the graph is another, which overwrites gradients. 0 or -1. */
int capture_run(struct engine *e, enum captured_part part, struct stash *stash,
                int (*work)(struct engine *e, struct stash *stash));

#endif
