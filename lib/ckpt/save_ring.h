/* SPDX-License-Identifier: MIT */
/* The buffers of a rank's writer, which stay from one save to the next: the n-th unit of every save has the
 * same size. Memory that nobody has touched costs a fault a page, and the first snapshot several times what
 * later ones take: so a thread may touch it before, while training runs. */
#ifndef CKPT_SAVE_RING_H
#define CKPT_SAVE_RING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ckpt/units.h"

/* A unit in the ring. */
struct slot {
    struct unit unit; /* segments are its own */
    char *bytes;      /* as far into a page as the unit's are in its file: pwrite_direct() */
    char *memory;     /* [room], whole pages: its own, or of the block */
    int64_t room;
    bool borrowed;
};

struct ring {
    struct slot *slots;
    int count;
    char *block; /* [block_bytes], of the slots that were there when it was made; or NULL */
    int64_t block_bytes;
    pthread_t toucher;
    bool touching;
    atomic_bool enough; /* it is to end */
};

/* Grows to `count` slots; never shrinks. */
void ring_grow(struct ring *r, int count);
/* Of an empty ring: makes it of slots of these sizes, in huge pages where the system has them, and begins to
 * touch their memory in a thread. Where there is no such memory, or no thread, slots have none yet, or it is
 * not touched. */
void ring_prepare(struct ring *r, const int64_t *sizes, int count);
/* Ends that: what is not touched by then is so by whoever writes it first. Returns at once, nearly. */
void ring_settle(struct ring *r);
/* Room for the bytes of its unit. What was in it is lost. */
void slot_room(struct slot *t);
void ring_release(struct ring *r);

#endif
