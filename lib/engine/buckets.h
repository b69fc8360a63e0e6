/* SPDX-License-Identifier: MIT */
/* Gradients summed over the replicas of a parameter, and weights gathered from them, a bucket (plan/shard.h) at
 * a time: with overlap beside what computes, in a stream of their own.
 *
 *   gradients   a bucket goes behind the last weight gradient in it that the program has, while the layers
 *               before are still computed; sums over tensor-parallel ranks come first, in the stream that
 *               computes
 *   weights     a bucket goes behind its update; the next forward waits for it where it first needs one of its
 *               weights, be it a step's or an evaluation's
 *
 * When that is, is a moment of the program: its operation, and the layer in that. The order of the sums is that
 * of these moments, and so is the order of the gathers that of the first uses. All members of a group have the
 * same program and the same elements in the buckets that they share, so that they queue them in one order, and
 * a stream whose next bucket waits for another rank cannot wait for itself. Operations in which something
 * happens beside are queued one by one, though others are graphs (capture.h): of each chunk the first forward
 * and the last backward.
 *
 * Without overlap, or where the plan cuts no buckets, all of it is in the stream that computes, at the end of
 * the step: the same operations, with the same bits. */
#ifndef ENGINE_BUCKETS_H
#define ENGINE_BUCKETS_H

#include "engine/engine.h"

void buckets_init(struct engine *e);
/* Waits for what is under way. */
void buckets_release(struct engine *e);

/* The program is at its operation number `op` (-1: before the first), of which part 0 is the head and its
 * loss, or the embedding where it goes forward; layer i of L is part 1 + i forward and part L − i backward; and
 * L + 1 is the other end. */
void buckets_at(struct engine *e, int op);
/* Whether something is to be summed or awaited within the operation. */
bool buckets_within(const struct engine *e);
/* The gradients of that part have been queued: sums what is complete. */
int gradients_done(struct engine *e, int part);
/* Later work may use the weights of that part. */
void weights_await(struct engine *e, int part);
/* Later work in the stream that computes may use all weights. */
void weights_settle(struct engine *e);

/* A step's gradients are to come: the first operations of its program overwrite what is there (linear.h). */
void gradients_begin(struct engine *e);
/* What is left to be summed is; later work may use this rank's slices of the sums. whole: all of them. */
int gradients_reduce(struct engine *e, bool whole);
/* update(e, flat, bucket, of) is asked for the update of each, behind which its weights are gathered. */
int weights_update(struct engine *e, void (*update)(struct engine *, enum flat, int64_t, const void *of),
                   const void *of);

#endif
