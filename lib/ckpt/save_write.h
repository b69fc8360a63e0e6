/* SPDX-License-Identifier: MIT */
/* Units on their way to files: a ring of buffers, filled in order by the walk (save_units.h) and emptied in the
 * same order by one thread. The thread touches files and nothing else: no communication, no device.
 *
 * With a buffer for every unit the walk never waits for a disk: what the ring then holds is a snapshot, and
 * training goes on while it is written. With a few, it is a pipe, and the disk sets the pace. */
#ifndef CKPT_SAVE_WRITE_H
#define CKPT_SAVE_WRITE_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "ckpt/map.h"
#include "ckpt/save_ring.h"
#include "ckpt/units.h"

/* The checksum of bytes that one writer wrote: a part of one entry, within one range of the manifest's. */
struct range {
    int entry;
    uint32_t crc32;
    int64_t begin, bytes; /* in the entry */
};

struct writer {
    const struct ckpt_map *l;
    const char *dir;     /* the temporary directory; its files are there, with their full sizes */
    const bool *touched; /* [file]: to be synced at the end, as another descriptor wrote to it */
    struct ring *ring;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t moved;          /* a number below changed */
    int64_t taken, given, written; /* units, since the start: written <= given <= taken <= written + slots */
    bool closed, done;             /* no more units come; the thread has nothing left to do */
    /* Of the thread, and of whoever calls after writer_join(). */
    bool failed;
    enum status status;
    char text[640];
    int fd, fd_file;
    int64_t settling, settling_bytes; /* what was written to fd last, and is on its way to the disk */
    struct range *ranges;             /* what was written, in the order of the walk */
    int range_count, range_room;
};

/* `l`, `dir`, `touched` and the ring must outlive writer_join(). -1 (status 3): no thread. */
int writer_start(struct writer *w, struct ring *ring, const struct ckpt_map *l, const char *dir,
                 const bool *touched);
/* The next buffer of the ring, with a copy of the unit and room for its bytes; waits, with signs of life, until
 * it is written. Slots are filled in any way, and given in the order in which they were taken. */
struct slot *writer_take(struct writer *w, const struct unit *unit);
void writer_give(struct writer *w);
/* After the last unit. */
void writer_close(struct writer *w);
/* Whether the thread has done all that it was given, or has failed at it. Never waits. */
bool writer_done(struct writer *w);
/* Waits for it, with signs of life. -1: the first thing that it could not do, as error(). A writer that was
 * not closed stops where it is. */
int writer_join(struct writer *w);
void writer_release(struct writer *w);

#endif
